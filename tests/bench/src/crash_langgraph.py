"""The crash script of tests/scenarios (crash.rs) through LangGraph with its SQLite checkpointer, killed at every boundary.

    python -m venv v && v/bin/pip install langgraph langgraph-checkpoint-sqlite
    cargo build --release -p ambit-crash
    v/bin/python tests/bench/src/crash_langgraph.py target/release/libambit_crash.so

The same preloaded library kills the process right before its n-th write to a file, commit, connection or send; then the same thread is invoked
again until it ends, as LangGraph's documentation has it (durability "sync": a checkpoint is on disk before the next step). Effects are seen by a
server that counts them by path. Prints a line of Markdown.
"""

import collections
import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

ROUNDS = [["pay/a", "put/b"], ["pay/c"], ["put/d", "pay/e"], ["pay/f"]]


def post(url, body, key=None):
    headers = {"content-type": "application/json"}
    if key:
        headers["idempotency-key"] = key
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def agent(folder, server, thread):
    """One process: goes on with the thread from its last checkpoint, or begins it."""
    import operator
    from typing import Annotated, TypedDict

    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    class State(TypedDict):
        round: int
        calls: list
        results: Annotated[list, operator.add]

    def model(state):
        answer = post(f"{server}/model", {"round": state["round"]})
        return {"calls": answer["calls"], "round": state["round"] + 1}

    def tools(state):
        results = []
        for n, call in enumerate(state["calls"]):
            key = f"{thread}-{state['round']}-{n}"
            results.append(post(f"{server}/effect/{call}", {}, key)["done"])
        return {"results": results}

    graph = StateGraph(State)
    graph.add_node("model", model)
    graph.add_node("tools", tools)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda state: "tools" if state["calls"] else END)
    graph.add_edge("tools", "model")
    with SqliteSaver.from_conn_string(os.path.join(folder, "checkpoints.db")) as saver:
        saver.setup()
        app = graph.compile(checkpointer=saver)
        config = {"configurable": {"thread_id": thread}}
        known = app.get_state(config).values
        print("ready", flush=True)
        sys.stdin.readline()
        given = None if known else {"round": 0, "calls": [], "results": []}
        state = app.invoke(given, config, durability="sync")
        print(json.dumps(state["results"]), flush=True)


class Outside(http.server.BaseHTTPRequestHandler):
    seen = collections.Counter()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/model":
            answer = {"calls": ROUNDS[body["round"]] if body["round"] < len(ROUNDS) else []}
        else:
            name = self.path.removeprefix("/effect/")
            Outside.seen[name] += 1
            answer = {"done": name}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def run(folder, server, armed=None, library=None, n=None):
    """Whether it ended by itself, and what it said."""
    environment = dict(os.environ)
    if library:
        environment |= {"LD_PRELOAD": library, "AMBIT_CRASH": armed}
    process = subprocess.Popen(
        [sys.executable, __file__, "--agent", folder, server, "one"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert process.stdout.readline() == "ready\n"
    if n:
        with open(armed, "w") as file:
            file.write(str(n))
    try:
        told, _ = process.communicate("go\n")
    except BrokenPipeError:
        told = ""
    return process.returncode != -signal.SIGKILL, told


def main(library):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Outside)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    points = repeated = lost = 0
    effects = collections.Counter()
    for n in range(1, 100_000):
        Outside.seen.clear()
        with tempfile.TemporaryDirectory() as folder:
            ended, told = run(folder, url, os.path.join(folder, "armed"), library, n)
            if ended:
                break
            ended, told = run(folder, url)
        points += 1
        names = [name for calls in ROUNDS for name in calls]
        lost += not ended or sorted(json.loads(told)) != sorted(names)
        # Those that must not be made twice.
        twice = [name for name in names if name.startswith("pay/") and Outside.seen[name] > 1]
        repeated += bool(twice)
        effects.update(twice)
        print(f"\r{points} boundaries, {repeated} with a repeated effect", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(f"| LangGraph, SQLite checkpointer | {points} | {repeated} | {lost} |")
    print(f"repeated: {dict(effects)}", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1] == "--agent":
        agent(*sys.argv[2:])
    else:
        main(os.path.abspath(sys.argv[1]))
