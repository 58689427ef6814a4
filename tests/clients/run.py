"""The client tests: PyPI `openai`, unmodified, against the real binary and a scripted model.

`AMBIT` and `AMBIT_MOCK_PROVIDER` name the two binaries (components are found beside the first, or by `AMBIT_COMPONENTS`). Everything
else is made here: a mock provider, `ambit up` on an empty data folder, a key with a rate limit. With `AMBIT_URL`, `AMBIT_HOST` and
`AMBIT_API_KEY` (and `AMBIT_OPS_URL`, `AMBIT_ADMIN_KEY` for the rate limit) a server that already runs is tested instead; its
provider should be the mock with the script below.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

import openai

import openai_client

# The model asks for the client's own tool where it is offered, else answers in text.
SCRIPT = {
    "models": ["mock-1"],
    "reply": {
        "tools_if_offered": {
            "calls": [{"name": "get_weather", "arguments": '{"city":"Paris"}'}, {"name": "get_time", "arguments": '{"zone":"CET"}'}],
            "text": "It is sunny in Paris, says the mock; grüße, 世界.",
        }
    },
    "usage": {"input": 11, "cached": 3, "output": 7, "reasoning": 2},
}


def start(command):
    """Starts a server; its first line of output is JSON and says that it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{command[0]} ended with {process.wait()} before it was ready")
    return process, json.loads(line)


def suite():
    loaded = unittest.defaultTestLoader.loadTestsFromModule(openai_client)
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2)
    result = runner.run(loaded)
    failed = len(result.failures) + len(result.errors)
    for test, reason in result.skipped:
        line = f"SKIPPED {test.id()}: {reason}"
        print(line)
        if os.environ.get("AMBIT_SKIPS"):
            with open(os.environ["AMBIT_SKIPS"], "a", encoding="utf-8") as skips:
                print(line, file=skips)
    passed = result.testsRun - failed - len(result.skipped)
    print(f"clients: {passed} passed, {failed} failed, {len(result.skipped)} skipped (openai {openai.__version__})")
    return failed == 0 and passed > 0


def printed_line_works(folder):
    """The Python line that `ambit up` prints for people, pasted into a shell whose python3 is this one."""
    command = [os.environ["AMBIT"], "up", "--data", os.path.join(folder, "printed"), "--listen", "127.0.0.1:0"]
    if os.environ.get("AMBIT_COMPONENTS"):
        command += ["--components", os.environ["AMBIT_COMPONENTS"]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        said = []
        while not (said and said[-1].startswith("Stop with")):
            line = process.stdout.readline()
            if not line:
                raise SystemExit("ambit up ended before it had said everything")
            said.append(line.strip())
        line = next(line for line in said if line.startswith("python3 -c"))
        path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
        ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120, env={**os.environ, "PATH": path})
        works = ran.returncode == 0 and "narrow" in ran.stdout
        print("the printed line: " + ("passed" if works else f"failed\n{line}\n{ran.stdout}{ran.stderr}"))
        return works
    finally:
        process.terminate()
        process.wait(timeout=30)


def main():
    if os.environ.get("AMBIT_URL"):
        server = openai_client.SERVER
        server.url = os.environ["AMBIT_URL"]
        server.host = os.environ["AMBIT_HOST"]
        server.api_key = os.environ["AMBIT_API_KEY"]
        server.ops_url = os.environ.get("AMBIT_OPS_URL")
        server.admin_key = os.environ.get("AMBIT_ADMIN_KEY")
        return suite()
    processes = []
    with tempfile.TemporaryDirectory(prefix="ambit-clients-") as folder:
        try:
            mock, said = start([os.environ["AMBIT_MOCK_PROVIDER"], "--script", json.dumps(SCRIPT)])
            processes.append(mock)
            command = [os.environ["AMBIT"], "up", "--data", os.path.join(folder, "data"), "--listen", "127.0.0.1:0"]
            command += ["--format", "json", "--provider-url", said["url"]]
            if os.environ.get("AMBIT_COMPONENTS"):
                command += ["--components", os.environ["AMBIT_COMPONENTS"]]
            ambit, up = start(command)
            processes.append(ambit)
            openai_client.SERVER.use(up)
            # Both, whatever becomes of the first.
            return all([suite(), printed_line_works(folder)])
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
