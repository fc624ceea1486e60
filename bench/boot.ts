import { createVm, expectStatus } from '../test/support/api.ts';
import { startDaemon } from '../test/support/daemon.ts';
import { startBareVm } from './bare-qemu.ts';
import { guestKernelArgs, imageFiles } from './guest.ts';
import { RawClient } from './raw-client.ts';
import { median, type Row, times } from './report.ts';
import { covered, operationSteps } from './steps.ts';

const boots = 20;

/** Cold boots in turns with a bare QEMU that is started by hand, and the daemon's own part of them. */
export async function benchBoot(): Promise<Row[]> {
  await using daemon = await startDaemon();
  const files = imageFiles(daemon);
  // The first VM waits for the acceleration probe, and warms the page cache for both.
  const first = await createVm(daemon);
  const kernelArgs = await guestKernelArgs(daemon, first.id);
  await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${first.id}`);

  const bare: number[] = [];
  const berth: number[] = [];
  const bareBoot = async () => {
    const vm = await startBareVm(files, kernelArgs);
    bare.push(vm.firstReplyMs);
    await vm.end();
  };
  using client = await RawClient.connect(daemon);
  const berthBoot = async () => {
    const { vm, ms } = await client.create();
    berth.push(ms);
    await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${vm.id}`);
  };
  // What a call costs by itself, to a daemon and from a client that have waited as long as a boot takes.
  const calls: number[] = [];
  const smallestCall = async () => {
    calls.push(await client.smallest());
  };
  // Each goes first every other time: what one leaves behind meets the other as often.
  for (let n = 0; n < boots; n++)
    for (const turn of n % 2 === 0 ? [bareBoot, berthBoot] : [berthBoot, bareBoot, smallestCall]) await turn();

  const steps = operationSteps(daemon, 'create').slice(1);
  const without = (left: (name: string) => boolean) =>
    berth.map((ms, n) => {
      return ms - covered(steps[n]!.filter((step) => left(step.name))) / 1000;
    });
  return [
    times({
      what: 'cold create to RUNNING',
      ms: berth,
      floor: { what: 'bare QEMU to first reply', ms: bare },
      atMost: { ratio: 1.15 },
    }),
    times({
      what: 'create less QEMU and guest, with nft and ip',
      ms: without((name) => name === 'launch' || name === 'guest'),
    }),
    times({
      what: 'create less all programs it runs, files and their fsync included',
      ms: without((name) => programSteps.has(name)),
      floor: { what: 'the smallest call then', ms: calls },
    }),
    times({
      what: 'own code of a create: the same less the smallest call',
      ms: without((name) => programSteps.has(name)).map((ms) => ms - median(calls)),
      atMost: { ms: 5 },
    }),
  ];
}

/** Steps that wait for programs: ip and nft, QEMU, the guest. */
const programSteps = new Set(['network', 'launch', 'guest']);
