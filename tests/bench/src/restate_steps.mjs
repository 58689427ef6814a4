// Durable steps of Restate (a step that does nothing, its result committed before the next one begins): steps per second, latency and CPU of its
// server per step, at 1 and at 256 invocations, as host/store/examples/journal_rate.rs measures ours. Restate commits a step once, with its result; ours
// commits an intent before and an outcome after. Its handler runs in this process, through Restate's own SDK, and its time is part of a step's latency.
//
//     npm install @restatedev/restate-server @restatedev/restate-sdk
//     node tests/bench/src/restate_steps.mjs NODE_MODULES FOLDER
//
// FOLDER is where its data is put for the time of the measurement; it should lie on the disk that is asked about.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { join, resolve } from "node:path";

// Node 20 has none, and the SDK wants it.
Promise.withResolvers ??= () => {
  const all = {};
  all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject }));
  return all;
};

const [modules, folder] = process.argv.slice(2).map((path) => resolve(path));
const require = createRequire(join(modules, "x.js"));
const restate = require("@restatedev/restate-sdk");
const SECONDS = 4;

const freePort = () =>
  new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

const [ingress, admin, node, service] = await Promise.all([0, 0, 0, 0].map(freePort));
const data = mkdtempSync(join(folder, "restate-"));
const server = spawn(join(modules, ".bin", "restate-server"), ["--base-dir", data], {
  stdio: "ignore",
  // A group of its own: the command is a script that starts the server.
  detached: true,
  env: {
    ...process.env,
    RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ingress}`,
    RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${admin}`,
    RESTATE_BIND_ADDRESS: `127.0.0.1:${node}`,
    RESTATE_ADVERTISED_ADDRESS: `http://127.0.0.1:${node}`,
    RESTATE_DISABLE_TELEMETRY: "true",
    RESTATE_LOG_FILTER: "error",
  },
});

// Hundredths of a second, fields 14 and 15 of proc(5), of the server and what it started.
const cpu = () => {
  const children = (pid) =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).flatMap((child) => [child, ...children(child)]);
  const ticks = (pid) => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").pop().split(" ").slice(11, 13).reduce((sum, n) => sum + Number(n), 0);
  return [server.pid, ...children(server.pid)].reduce((sum, pid) => sum + ticks(pid), 0) * 10_000;
};

const latencies = [];
const steps = restate.service({
  name: "steps",
  handlers: {
    run: async (context, until) => {
      let done = 0;
      while (Date.now() < until) {
        const start = performance.now();
        await context.run("step", () => null);
        latencies.push(performance.now() - start);
        done += 1;
      }
      return done;
    },
  },
});

const answered = async (url, request) => {
  for (let tries = 0; ; tries += 1) {
    try {
      const answer = await fetch(url, request);
      if (answer.ok) return answer;
      if (tries > 300) throw new Error(`${url}: ${answer.status}: ${await answer.text()}`);
    } catch (error) {
      if (tries > 300) throw error;
    }
    await new Promise((done) => setTimeout(done, 100));
  }
};
const body = (value) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });

try {
  await restate.endpoint().setLogger(() => {}).bind(steps).listen(service);
  await answered(`http://127.0.0.1:${admin}/health`);
  await answered(`http://127.0.0.1:${admin}/deployments`, body({ uri: `http://127.0.0.1:${service}` }));
  await answered(`http://127.0.0.1:${ingress}/steps/run`, body(Date.now() + 500));
  console.log(`${"server".padEnd(9)} ${"sessions".padStart(8)} ${"steps/s".padStart(10)} ${"p50 ms".padStart(9)} ${"p99 ms".padStart(9)} ${"CPU µs/step".padStart(14)}`);
  for (const sessions of [1, 16, 256]) {
    latencies.length = 0;
    const [start, before] = [performance.now(), cpu()];
    const until = Date.now() + SECONDS * 1000;
    await Promise.all(Array.from({ length: sessions }, () => answered(`http://127.0.0.1:${ingress}/steps/run`, body(until))));
    const [seconds, spent] = [(performance.now() - start) / 1000, cpu() - before];
    latencies.sort((a, b) => a - b);
    const at = (share) => latencies[Math.floor((latencies.length - 1) * share)].toFixed(3);
    const rate = (latencies.length / seconds).toFixed(0);
    const each = (spent / latencies.length).toFixed(1);
    console.log(`${"restate".padEnd(9)} ${String(sessions).padStart(8)} ${rate.padStart(10)} ${at(0.5).padStart(9)} ${at(0.99).padStart(9)} ${each.padStart(14)}`);
  }
} finally {
  process.kill(-server.pid, "SIGKILL");
  rmSync(data, { recursive: true, force: true });
}
process.exit(0);
