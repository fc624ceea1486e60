import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError } from '../src/common/errors.ts';
import { processCpuMicros } from '../src/engine/qemu/usage.ts';
import type { CreateVm } from '../src/vm/request.ts';
import { openTestHost } from '../test/support/service.ts';
import { startBareVm } from './bare-qemu.ts';
import { imageFiles } from './guest.ts';
import { quantity, type Row, times } from './report.ts';

type TestHost = Awaited<ReturnType<typeof openTestHost>>;

const vms = 100;
const wakes = 40;
/** How long VMs stand still before they are woken, milliseconds: long enough for the host to do something else. */
const restMs = 100;
/** How long processor time is watched, milliseconds. */
const watchMs = 10_000;

const request: CreateVm = { cpus: 1, memoryMiB: 128, egress: { outbound: false, allow: [] } };

/**
 * Waking beside the same by hand, and what many parked VMs cost. The floor of waking is a QEMU that was started by hand,
 * `cont` on its monitor and one request to its guest; Berth sets the guest's clock besides, and takes a note.
 */
export async function benchParking(): Promise<Row[]> {
  const host = await openTestHost({
    'quota.total_cpus': 2 * vms,
    'quota.max_vms': 2 * vms,
    'template.waiting': 0,
    'engine.memory_overhead_mib': 0,
  });
  try {
    return [await waking(host), ...(await resting(host))];
  } finally {
    await host.dispose();
  }
}

async function waking(host: TestHost): Promise<Row> {
  const { id } = await host.vms.create({ ...request, memoryMiB: 256 });
  const exec = host.vms.guest(id).exec({
    ...{ argv: ['/bin/cat', '/proc/cmdline'], cwd: '/', env: {}, uid: 0, gid: 0, timeoutMs: 10_000 },
  });
  const bare = await startBareVm(imageFiles(host), (await text(exec.stdout)).trim().split(' '));
  const byBerth: number[] = [];
  const byHand: number[] = [];
  try {
    for (let n = 0; n < wakes; n++) {
      await park(host, id);
      await sleep(restMs);
      byBerth.push(await timed(() => host.vms.guest(id).ready(10_000)));
      await bare.control('stop');
      await sleep(restMs);
      byHand.push(
        await timed(async () => {
          await bare.control('cont');
          await bare.guest.ready(10_000);
        }),
      );
    }
  } finally {
    await bare.end();
    await host.vms.remove(id);
  }
  const floor = { what: '`cont` and one request by hand', ms: byHand };
  return times({ what: 'a parked VM to its first reply', ms: byBerth, floor, atMost: { ms: 15 } });
}

/** Clones, since that many boots would take all day. */
async function resting(host: TestHost): Promise<Row[]> {
  const [image] = host.images.list();
  if (!image) throw new Error('there is no image');
  await host.vms.warm({ imageId: image.id, cpus: request.cpus, memoryMiB: request.memoryMiB });
  const ids: string[] = [];
  for (let n = 0; n < vms; n++) ids.push((await host.vms.create(request)).id);
  const pids = await Promise.all(ids.map(async (id) => (await host.vms.usage(id))?.pid ?? 0));
  // What clones do once they are on their own has been done.
  await sleep(watchMs);
  const awake = await used(pids);
  for (const id of ids) await park(host, id);
  await sleep(1000);
  const parked = await used(pids);
  // At once: that many guests would take minutes to shut down.
  for (const id of ids) await host.vms.remove(id);
  return [
    quantity({
      what: `processor time of a parked VM in ${watchMs / 1000} s, mean of ${vms}`,
      value: parked.vmsMs / vms,
      unit: ' ms',
      floor: { what: 'awake and idle', value: awake.vmsMs / vms },
      // A tenth of the least that the kernel accounts for, which is 10 ms: of one VM nothing can be measured.
      atMost: 1,
    }),
    quantity({
      what: `processor time of their daemon in ${watchMs / 1000} s`,
      value: parked.daemonMs,
      unit: ' ms',
      floor: { what: 'awake and idle', value: awake.daemonMs },
    }),
  ];
}

/** Processor time that the VMs, and this process, use from now on for a while. */
async function used(pids: readonly number[]): Promise<{ vmsMs: number; daemonMs: number }> {
  const before = await cpuMicros(pids);
  const own = process.cpuUsage();
  await sleep(watchMs);
  const { user, system } = process.cpuUsage(own);
  return { vmsMs: ((await cpuMicros(pids)) - before) / 1000, daemonMs: (user + system) / 1000 };
}

async function cpuMicros(pids: readonly number[]): Promise<number> {
  const each = await Promise.all(pids.map((pid) => processCpuMicros(pid)));
  return each.reduce<number>((sum, micros) => sum + (micros ?? Number.NaN), 0);
}

/** A request is over a moment after its reply. */
async function park(host: TestHost, id: string): Promise<void> {
  for (;;) {
    try {
      return await host.vms.park(id);
    } catch (error) {
      if (!(error instanceof BerthError && error.code === 'conflict')) throw error;
      await sleep(1);
    }
  }
}

async function timed(task: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await task();
  return performance.now() - started;
}
