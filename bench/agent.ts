import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { build } from 'esbuild';
import { bundleAgent } from '../scripts/bundle-agent.mjs';
import { agentFiles, inDirectory } from '../src/agent/testing/agent-files.ts';
import { AgentVm } from '../src/agent/testing/vm.ts';
import { exists } from '../src/common/files.ts';
import { quantity, type Row, times } from './report.ts';

const starts = 7;
const seconds = 4;
/** Keys that are asked for once only, so that none of them is remembered. */
const paths = 5000;

/**
 * The dstack guest agent: its calls, start and memory inside a VM, and the rate of GetKey on this machine. The floor of a
 * call is a plain node:http server on a unix socket that answers a constant, that of a start a Node without a program.
 */
export async function benchAgent(): Promise<Row[]> {
  return [...(await inVm()), ...(await onThisMachine())];
}

async function inVm(): Promise<Row[]> {
  await using vm = await AgentVm.boot('{"name":"bench","runner":"bash"}');
  await vm.upload('/bench', { 'load.cjs': await bundleLoad() });
  const started: number[] = [];
  const empty: number[] = [];
  // The first start of each reads the program from disk, and compiles it.
  for (let n = 0; n < starts + 1; n++) {
    empty.push(await elapsed(() => vm.run('node -e 0')));
    let pid = 0;
    started.push(
      await elapsed(async () => {
        pid = await vm.startAgent();
      }),
    );
    if (n < starts) await vm.run(`kill ${pid}; while kill -0 ${pid} 2>/dev/null; do sleep 0.1; done; rm -r /run/log`);
  }
  const calls = JSON.parse(await vm.run('node /bench/load.cjs', 240_000)) as Record<string, number[]>;
  const status = await vm.run("grep VmRSS /proc/$(pgrep -f '^node agent.cjs')/status");
  const emptyRss = await vm.run("node -e 'console.log(process.memoryUsage().rss)'");
  const floor = { what: 'node:http, a constant', ms: calls.floor! };
  return [
    times({ what: 'agent in a VM: GetKey, another path each time', ms: calls.GetKey!, floor, atMost: { ms: 20 } }),
    times({ what: 'agent in a VM: GetQuote', ms: calls.GetQuote!, floor, atMost: { ms: 150 } }),
    times({ what: 'agent in a VM: GetTlsKey with RA-TLS', ms: calls.GetTlsKey!, floor, atMost: { ms: 300 } }),
    times({
      what: 'agent in a VM: start to listening',
      ms: started.slice(1),
      floor: { what: 'empty node', ms: empty.slice(1) },
      atMost: { ms: 3000 },
    }),
    quantity({
      what: 'agent in a VM: resident memory after the calls',
      value: (Number(/\d+/.exec(status)) * 1024) / 1e6,
      unit: ' MB',
      floor: { what: 'empty node', value: Number(emptyRss) / 1e6 },
      atMost: 90,
    }),
  ];
}

async function elapsed(run: () => Promise<unknown>): Promise<number> {
  const before = performance.now();
  await run();
  return performance.now() - before;
}

async function bundleLoad(): Promise<Buffer> {
  const scratch = await mkdtemp(join(tmpdir(), 'berth-bench-'));
  const outfile = join(scratch, 'load.cjs');
  const entry = fileURLToPath(new URL('agent-in-vm.ts', import.meta.url));
  await build({ entryPoints: [entry], outfile, bundle: true, platform: 'node', format: 'cjs' });
  const content = await readFile(outfile);
  await rm(scratch, { recursive: true });
  return content;
}

/** GetKey over the socket of an agent as it is put into VMs, here. */
async function onThisMachine(): Promise<Row[]> {
  const home = await mkdtemp(join(tmpdir(), 'berth-bench-'));
  const program = join(home, 'agent.cjs');
  await bundleAgent(program);
  const files = agentFiles({ compose: '{"name":"bench"}', config: inDirectory });
  for (const [name, content] of Object.entries(files)) await writeFile(join(home, name), content);
  const agent = spawn(process.execPath, [program, join(home, 'agent.json')], { stdio: 'ignore' });
  const socket = join(home, 'run', 'dstack.sock');
  const floorSocket = join(home, 'floor.sock');
  const constant = `{"key":"${'0'.repeat(64)}","signature_chain":["${'0'.repeat(130)}",""]}`;
  const server = `require('node:http').createServer((q, r) => { q.resume(); r.writeHead(200, { 'content-type':
    'application/json', 'content-length': ${constant.length} }); r.end('${constant}') }).listen('${floorSocket}')`;
  const floorProcess = spawn(process.execPath, ['-e', server], { stdio: 'ignore' });
  try {
    for (const path of [socket, floorSocket]) while (!(await exists(path))) await sleep(20);
    await rate(socket, 1, 1);
    const value = await rate(socket, 1, seconds);
    const floor = { what: 'node:http, a constant', value: await rate(floorSocket, 1, seconds) };
    const fresh = await rate(socket, paths, seconds);
    return [
      quantity({ what: 'agent on this machine: GetKey', value, unit: '/s', floor, atLeast: 2000 }),
      quantity({
        what: `agent on this machine: GetKey, ${paths} paths in turn`,
        value: fresh,
        unit: '/s',
        floor,
        atLeast: 2000,
      }),
    ];
  } finally {
    await end(agent);
    await end(floorProcess);
    await rm(home, { recursive: true });
  }
}

/** Replies a second to GetKey of so many paths, on 16 connections. */
async function rate(socketPath: string, count: number, duration: number): Promise<number> {
  const requests = Array.from({ length: count }, (_, n) => ({
    method: 'POST' as const,
    path: '/GetKey',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ path: `bench/${n}`, purpose: 'signing' }),
  }));
  const result = await autocannon({ url: 'http://agent', socketPath, requests, connections: 16, duration, workers: 1 });
  if (result.non2xx > 0 || result.errors > 0) throw new Error(`${result.non2xx} bad replies, ${result.errors} errors`);
  return result.requests.average;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}
