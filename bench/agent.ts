import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import autocannon from 'autocannon';
import { bundleAgent } from '../scripts/bundle-agent.mjs';
import { agentFiles, inDirectory } from '../src/agent/testing/agent-files.ts';
import { AgentVm, type VmProgram } from '../src/agent/testing/vm.ts';
import { runCommand } from '../src/common/command.ts';
import { exists } from '../src/common/files.ts';
import { quantity, type Row, times } from './report.ts';

const starts = 7;
const rounds = 100;
/** Calls of each kind before any counts: code is compiled. */
const warmUp = 30;
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
  const started: number[] = [];
  const empty: number[] = [];
  let agent: VmProgram | null = null;
  // Each is the start after a boot: with nothing in /run. The first of all reads the programs from disk, and compiles.
  for (let n = 0; n < starts + 1; n++) {
    await agent?.kill();
    await vm.run('rm -rf /run/log /run/dstack');
    const node = await timed(empty, () => vm.start(['node', '-e', emptyProgram]));
    await node.kill();
    agent = await timed(started, () => vm.startAgent());
  }
  const calls = await timeCalls(vm);
  const status = await vm.run("grep VmRSS /proc/$(pgrep -f '^[^ ]*node [^ ]*/agent.cjs')/status");
  const emptyRss = await vm.run("node -e 'console.log(process.memoryUsage().rss)'");
  const floor = { what: 'node:http, a constant', ms: calls.floor };
  return [
    times({ what: 'agent in a VM: GetKey, the same path', ms: calls.sameKey, floor, atMost: { ms: 20 } }),
    times({ what: 'agent in a VM: GetKey, another path each time', ms: calls.newKey, floor, atMost: { ms: 20 } }),
    times({ what: 'agent in a VM: GetQuote', ms: calls.GetQuote, floor, atMost: { ms: 150 } }),
    times({ what: 'agent in a VM: GetTlsKey with RA-TLS', ms: calls.GetTlsKey, floor, atMost: { ms: 300 } }),
    times({
      what: 'agent in a VM: start to listening',
      ms: started.slice(1),
      floor: { what: 'empty node', ms: empty.slice(1) },
      atMost: { ms: 3000 },
    }),
    times({
      what: 'agent in a VM: the first start of all, which reads and compiles',
      ms: started.slice(0, 1),
      floor: { what: 'empty node', ms: empty.slice(0, 1) },
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

/** Says a line, as the agent does when it listens, and goes on running. */
const emptyProgram = "require('fs').writeSync(1, 'up\\n'); setInterval(() => {}, 2 ** 30)";

/** What a run gives; adds the milliseconds it took. */
async function timed<T>(into: number[], run: () => Promise<T>): Promise<T> {
  const before = performance.now();
  const result = await run();
  into.push(performance.now() - before);
  return result;
}

interface CallTimes {
  readonly floor: readonly number[];
  readonly sameKey: readonly number[];
  readonly newKey: readonly number[];
  readonly GetQuote: readonly number[];
  readonly GetTlsKey: readonly number[];
}

/**
 * Milliseconds of calls in turns, each on a connection that stays, as a client in the VM sees them at the socket. The client
 * is in C: it has the same one emulated processor, and one in JavaScript would be measured along.
 */
async function timeCalls(vm: AgentVm): Promise<CallTimes> {
  const listening = '/run/floor.sock';
  await vm.start(['node', '-e', `${constantServer(listening)}.on('listening', () => console.log('up'))`]);
  const agent = '/run/dstack.sock';
  const calls: Readonly<Record<keyof CallTimes, (n: number) => string>> = {
    floor: () => `${listening} / {}`,
    sameKey: () => `${agent} /GetKey {"path":"bench","purpose":"signing"}`,
    newKey: (n) => `${agent} /GetKey {"path":"bench/${n}","purpose":"signing"}`,
    GetQuote: (n) => `${agent} /GetQuote {"report_data":"${n.toString(16).padStart(64, '0')}"}`,
    GetTlsKey: () => `${agent} /GetTlsKey {"subject":"a","alt_names":["localhost"],"usage_ra_tls":true}`,
  };
  const kinds = Object.keys(calls) as (keyof CallTimes)[];
  const order = Array.from({ length: warmUp + rounds }, (_, n) => kinds.map((kind) => ({ kind, n }))).flat();
  const lines = order.map(({ kind, n }) => `${calls[kind](n)}\n`);
  await vm.upload('/bench', { 'unix-client': await compileClient(), calls: lines.join('') });
  const printed = await vm.run('chmod 755 /bench/unix-client && /bench/unix-client /bench/calls', 300_000);
  const times = printed.trimEnd().split('\n').map(Number);
  const of = (wanted: keyof CallTimes) => times.filter((_, at) => order[at]!.kind === wanted && order[at]!.n >= warmUp);
  return {
    floor: of('floor'),
    sameKey: of('sameKey'),
    newKey: of('newKey'),
    GetQuote: of('GetQuote'),
    GetTlsKey: of('GetTlsKey'),
  };
}

/** The client that calls in a VM, which may have another C library, as a program that needs none. */
async function compileClient(): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-bench-'));
  try {
    const program = join(directory, 'unix-client');
    await runCommand('gcc', ['-O2', '-static', '-o', program, join(import.meta.dirname, 'unix-client.c')]);
    return await readFile(program);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Program of a server that answers what could be GetKey's reply, whatever it is asked. */
function constantServer(socket: string): string {
  const constant = `{"key":"${'0'.repeat(64)}","signature_chain":["${'0'.repeat(130)}",""]}`;
  return `require('node:http').createServer((q, r) => { q.resume(); r.writeHead(200, { 'content-type':
    'application/json', 'content-length': ${constant.length} }); r.end('${constant}') }).listen('${socket}')`;
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
  const floorProcess = spawn(process.execPath, ['-e', constantServer(floorSocket)], { stdio: 'ignore' });
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
