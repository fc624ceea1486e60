import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createVm, expectStatus, type WireVm } from '../test/support/api.ts';
import { startDaemon, type TestDaemon } from '../test/support/daemon.ts';
import { BareCloner } from './bare-clone.ts';
import { guestKernelArgs, run } from './guest.ts';
import { RawClient } from './raw-client.ts';
import { median, quantity, type Row, times } from './report.ts';
import { operationSteps } from './steps.ts';

const clones = 20;
const burst = 50;
const forks = 8;
const snapshots = 7;

const env = { BERTH_TEMPLATE_BUILD: 'true', BERTH_QUOTA_TOTAL_CPUS: '100' };

interface Starts {
  /** Milliseconds from the request to RUNNING, and to the result of a first command. */
  readonly running: number[];
  readonly firstResult: number[];
}

/**
 * VMs that are cloned instead of booted, in turns with clones made by hand of the same template. `create` is from the HTTP
 * request to its answer, `first result` until `true` has run by a second request.
 */
export async function benchClone(): Promise<Row[]> {
  return (await benchTemplates()).rows;
}

/** Creates that come at intervals and all at once. */
export async function benchBurst(): Promise<Row[]> {
  await using daemon = await startDaemon({ env });
  await removeAll(daemon, [await createVm(daemon)]);
  await templateOf(daemon);
  // The daemon is there until the last of them has ended.
  return await bursts(daemon);
}

/** {@link benchClone}, and creates that find a clone which was made beforehand, beside the same clones by hand. */
export async function benchSpare(): Promise<Row[]> {
  const { rows, identities } = await benchTemplates();
  return [
    ...rows,
    ...(await spares(identities, 'WAITING', 'from a waiting process', { ratio: 1 })),
    ...(await spares(identities, 'READY', 'from the ready pool', { ms: 25 })),
  ];
}

async function benchTemplates(): Promise<{ readonly rows: Row[]; readonly identities: readonly number[] }> {
  const rows: Row[] = [];
  await using daemon = await startDaemon({ env });
  const booted = await timed(() => createVm(daemon));
  const kernelArgs = await guestKernelArgs(daemon, booted.result.id);
  const template = await templateOf(daemon);
  const cloner = await BareCloner.prepare(template.dir, { diskMiB: template.diskMiB, kernelArgs });
  try {
    const { answers, identities, results, starts } = await inTurns(daemon, cloner);
    rows.push(
      times({
        what: 'create from a template to RUNNING',
        ms: starts.running,
        floor: { what: 'bare clone to new identity', ms: identities },
        atMost: { ratio: 1.3 },
      }),
      times({
        what: 'the same, beside a clone that stays what it was',
        ms: starts.running,
        floor: { what: 'bare clone to first answer', ms: answers },
      }),
      times({
        what: 'create from a template to first result',
        ms: starts.firstResult,
        floor: { what: 'the same by hand', ms: results },
        atMost: { ratio: 1.5 },
      }),
      ...phases(daemon),
      quantity({
        what: 'cold boot over create from a template',
        value: booted.ms / median(starts.running),
        unit: ' times',
        atLeast: 10,
      }),
      times({ what: 'VM stands still for a snapshot', ms: await pauses(daemon, booted.result.id), atMost: { ms: 60 } }),
      await forkRow(daemon, cloner),
      ...(await memoryRows(daemon)),
    );
    return { rows, identities };
  } finally {
    await cloner.remove();
  }
}

async function inTurns(daemon: TestDaemon, cloner: BareCloner) {
  const answers: number[] = [];
  const identities: number[] = [];
  const results: number[] = [];
  const starts: Starts = { running: [], firstResult: [] };
  using client = await RawClient.connect(daemon);
  const turns = [
    async () => {
      const clone = await cloner.clone('hello');
      answers.push(clone.answerMs);
      await clone.end();
    },
    async () => {
      const clone = await cloner.clone('identity');
      identities.push(clone.answerMs);
      const started = performance.now();
      const exec = clone.guest.exec({
        argv: ['/bin/bash', '-lc', 'true'],
        cwd: '/',
        env: {},
        uid: 1000,
        gid: 1000,
        timeoutMs: 60_000,
      });
      exec.stdout.resume();
      exec.stderr.resume();
      await exec.exit;
      results.push(clone.answerMs + performance.now() - started);
      await clone.end();
    },
    () => startOne(daemon, client, starts),
  ];
  for (let n = 0; n < clones; n++)
    for (let turn = 0; turn < turns.length; turn++) await turns[(n + turn) % turns.length]!();
  return { answers, identities, results, starts };
}

/** Makes a VM, runs a command in it and removes it. */
async function startOne(daemon: TestDaemon, client: RawClient, starts: Starts): Promise<void> {
  const {
    vm: { id },
    ms,
  } = await client.create();
  starts.running.push(ms);
  const { ms: commandMs } = await timed(() => run(daemon, id, 'true'));
  starts.firstResult.push(ms + commandMs);
  await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${id}`);
}

/** What the parts of the creates so far took; boots are left out. */
function phases(daemon: TestDaemon): Row[] {
  const creates = operationSteps(daemon, 'create').filter((steps) => steps.some(({ name }) => name === 'load'));
  return ['directory', 'disk', 'network', 'spawn', 'load', 'continue', 'hygiene'].map((name) =>
    times({
      what: `phase ${name}`,
      ms: creates.flatMap((steps) => steps.filter((step) => step.name === name).map(({ micros }) => micros / 1000)),
    }),
  );
}

async function pauses(daemon: TestDaemon, id: string): Promise<number[]> {
  // A VM as users have them: cloned, and used a little.
  const vm = await createVm(daemon);
  await run(daemon, vm.id, 'ls -R /usr/share | wc -l');
  const before = captures(daemon).length;
  for (let n = 0; n < snapshots; n++) await expectStatus(daemon, 201, 'POST', `/v1/vms/${vm.id}/snapshots`);
  await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${vm.id}`);
  await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${id}`);
  return captures(daemon).slice(before);
}

/** Milliseconds each VM stood still for each capture so far. */
function captures(daemon: TestDaemon): number[] {
  const lines = daemon
    .output()
    .split('\n')
    .filter((line) => line.includes('"pausedMicros"'));
  return lines.map((line) => (JSON.parse(line) as { pausedMicros: number }).pausedMicros / 1000);
}

async function forkRow(daemon: TestDaemon, cloner: BareCloner): Promise<Row> {
  const one = await createVm(daemon);
  const byHand: number[] = [];
  const forked: number[] = [];
  for (let n = 0; n < 3; n++) {
    const started = performance.now();
    for (let copy = 0; copy < forks; copy++) await (await cloner.clone('identity')).end();
    byHand.push(performance.now() - started);
    const fork = await timed(() =>
      expectStatus<WireVm[]>(daemon, 201, 'POST', `/v1/vms/${one.id}/fork`, { count: forks }),
    );
    forked.push(fork.ms);
    await removeAll(daemon, fork.result);
  }
  await removeAll(daemon, [one]);
  const floor = { what: `${forks} clones by hand, one after another`, ms: byHand };
  return times({ what: `fork of ${forks}`, ms: forked, floor, atMost: { ratio: 1.2 } });
}

/** What a clone's process has for itself, when it runs and when a command has been translated and run in it. */
async function memoryRows(daemon: TestDaemon): Promise<Row[]> {
  const vm = await createVm(daemon);
  const pid = await processOf(vm.id);
  const atRunning = await overheadMiB(pid);
  await run(daemon, vm.id, 'true');
  const afterCommand = await overheadMiB(pid);
  await removeAll(daemon, [vm]);
  const what = 'private memory of a clone beside what its guest changed';
  return [
    quantity({ what, value: atRunning, unit: ' MiB', atMost: 30 }),
    quantity({ what: `${what}, after a command (its code translated)`, value: afterCommand, unit: ' MiB' }),
  ];
}

/** MiB that are a process's alone, without the pages of guest memory. */
async function overheadMiB(pid: number): Promise<number> {
  let own = 0;
  let isGuestMemory = false;
  for (const line of (await readFile(`/proc/${pid}/smaps`, 'utf8')).split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isGuestMemory = line.includes('berth-memory');
    const kib = /^Private_Dirty:\s+(\d+) kB/.exec(line)?.[1];
    if (kib !== undefined && !isGuestMemory) own += Number(kib);
  }
  return own / 1024;
}

async function processOf(id: string): Promise<number> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (commandLine.startsWith('qemu') && commandLine.includes(`berth-${id}:`)) return Number(pid);
  }
  throw new Error(`no process of VM ${id}`);
}

/** Creates that come every half second, and all at once, each to the result of its first command. */
async function bursts(daemon: TestDaemon): Promise<Row[]> {
  const start = async (vms: WireVm[], ms: number[]) => {
    const started = performance.now();
    const vm = await createVm(daemon);
    vms.push(vm);
    await run(daemon, vm.id, 'true');
    ms.push(performance.now() - started);
  };
  const rows: Row[] = [];
  for (const [what, gapMs, count] of [
    ['staggered creates, one each 500 ms, to first result', 500, clones],
    [`${burst} creates at once, to first result`, 0, burst],
  ] as const) {
    const vms: WireVm[] = [];
    const ms: number[] = [];
    await Promise.all(Array.from({ length: count }, (_, n) => sleep(n * gapMs).then(() => start(vms, ms))));
    await removeAll(daemon, vms);
    rows.push(times({ what, ms }));
  }
  return rows;
}

/** Creates that find a spare each time, on the data directory of the daemon that has the template. */
async function spares(
  byHand: readonly number[],
  kind: 'WAITING' | 'READY',
  what: string,
  atMost: { readonly ms: number } | { readonly ratio: number },
): Promise<Row[]> {
  await using daemon = await startDaemon({
    env: { BERTH_TEMPLATE_BUILD: 'true', [`BERTH_TEMPLATE_${kind}`]: '2' },
  });
  await removeAll(daemon, [await createVm(daemon)]);
  await templateOf(daemon);
  await removeAll(daemon, [await createVm(daemon)]);
  const starts: Starts = { running: [], firstResult: [] };
  using client = await RawClient.connect(daemon);
  for (let n = 0; n < clones; n++) {
    await sparesAre(daemon, 2);
    await startOne(daemon, client, starts);
  }
  const floor = { what: 'bare clone to new identity', ms: [...byHand] };
  return [
    times({ what: `create ${what} to RUNNING`, ms: starts.running, floor, atMost }),
    times({ what: `create ${what} to first result`, ms: starts.firstResult }),
  ];
}

/** Waits until that many VMs that nobody sees stand ready. */
async function sparesAre(daemon: TestDaemon, count: number): Promise<void> {
  const marker = (line: string) =>
    line.includes('"spares"') && (JSON.parse(line) as { spares: number }).spares >= count;
  for (;;) {
    const last = daemon
      .output()
      .split('\n')
      .findLast((line) => line.includes('"spares"'));
    if (last !== undefined && marker(last)) return;
    await sleep(20);
  }
}

/** Waits for the template that a first boot leaves behind. */
async function templateOf(daemon: TestDaemon): Promise<{ readonly dir: string; readonly diskMiB: number }> {
  for (;;) {
    const line = daemon
      .output()
      .split('\n')
      .find((text) => text.includes('"template built"'));
    if (line !== undefined) {
      const { template, diskMiB } = JSON.parse(line) as { template: string; diskMiB: number };
      return { dir: join(daemon.home, 'snapshots', template), diskMiB };
    }
    await sleep(50);
  }
}

async function removeAll(daemon: TestDaemon, vms: readonly WireVm[]): Promise<void> {
  for (const { id } of vms) await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${id}`);
}

async function timed<T>(task: () => Promise<T>): Promise<{ readonly result: T; readonly ms: number }> {
  const started = performance.now();
  const result = await task();
  return { result, ms: performance.now() - started };
}
