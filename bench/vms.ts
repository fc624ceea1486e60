import { join } from 'node:path';
import { expectStatus, smallVm, type WireVm } from '../test/support/api.ts';
import { startDaemon, type TestDaemon } from '../test/support/daemon.ts';
import { startBareVm } from './bare-qemu.ts';
import { ms, type Row, summarize } from './statistics.ts';

const boots = 11;
const commands = 200;

/** Boots, the daemon's own part of them, and commands; each beside the same thing done to a bare QEMU by hand. */
export async function benchVms(): Promise<Row[]> {
  await using daemon = await startDaemon();
  const image = join(daemon.home, 'images', 'sandbox');
  const files = { kernel: join(image, 'vmlinux'), initrd: join(image, 'initrd'), rootfs: join(image, 'rootfs.ext4') };

  // The first VM waits for the acceleration probe, and warms the page cache for both.
  const first = await expectStatus<WireVm>(daemon, 201, 'POST', '/v1/vms', smallVm);
  const kernelArgs = (await run(daemon, first.id, 'cat /proc/cmdline')).stdout.trim().split(' ');
  const viaHttp = await timeCommands(() => run(daemon, first.id, 'true'));
  await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${first.id}`);

  const bareBoots: number[] = [];
  const berthBoots: number[] = [];
  let direct: CommandTimes | null = null;
  for (let n = 0; n < boots; n++) {
    const bare = await startBareVm(files, smallVm.memMb, kernelArgs);
    bareBoots.push(bare.firstReplyMs);
    direct ??= await timeCommands(async () => {
      const exec = bare.guest.exec({ argv: ['/bin/true'], cwd: '/', env: {}, uid: 0, gid: 0, timeoutMs: 10_000 });
      exec.stdout.resume();
      exec.stderr.resume();
      return { guestMs: (await exec.exit).durationMicros / 1000 };
    });
    await bare.end();
    const started = performance.now();
    const vm = await expectStatus<WireVm>(daemon, 201, 'POST', '/v1/vms', smallVm);
    berthBoots.push(performance.now() - started);
    await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${vm.id}`);
  }

  const bare = summarize(bareBoots);
  const berth = summarize(berthBoots);
  const steps = createSteps(daemon).slice(1);
  const without = (left: (name: string) => boolean) =>
    summarize(
      steps.map((timings, n) => {
        const micros = timings.filter((step) => left(step.name)).reduce((sum, step) => sum + step.micros, 0);
        return berthBoots[n]! - micros / 1000;
      }),
    );
  const own = without(() => true);
  const besideEngine = without((name) => name === 'launch' || name === 'guest');
  const ratio = berth.p50 / bare.p50;
  const http = summarize(viaHttp.overheadMs);
  const floor = summarize(direct!.overheadMs);
  return [
    {
      what: `cold create to RUNNING (n=${boots})`,
      measured: `p50 ${ms(berth.p50)}, p99 ${ms(berth.p99)}`,
      floor: `p50 ${ms(bare.p50)}, p99 ${ms(bare.p99)} (bare QEMU to first reply)`,
      ratio: ratio.toFixed(2),
      target: 'at most 1.15',
      met: ratio <= 1.15,
    },
    {
      what: `create less QEMU and guest, with qemu-img, nft and ip (n=${boots})`,
      measured: `p50 ${ms(besideEngine.p50)}, p99 ${ms(besideEngine.p99)}`,
      floor: '',
      ratio: '',
      target: '',
      met: true,
    },
    {
      what: `own code of a create: less all programs it runs (n=${boots})`,
      measured: `p50 ${ms(own.p50)}, p99 ${ms(own.p99)}`,
      floor: '',
      ratio: '',
      target: 'p50 at most 5 ms',
      met: own.p50 <= 5,
    },
    {
      what: `exec true through HTTP, less the guest's own time (n=${commands})`,
      measured: `p50 ${ms(http.p50)}, p99 ${ms(http.p99)}`,
      floor: `p50 ${ms(floor.p50)}, p99 ${ms(floor.p99)} (guest channel alone)`,
      ratio: (http.p50 / floor.p50).toFixed(2),
      target: 'p50 at most 10 ms',
      met: http.p50 <= 10,
    },
  ];
}

interface CommandTimes {
  readonly overheadMs: readonly number[];
}

/** Runs a command many times; what it took beyond the time the guest measured for it. */
async function timeCommands(command: () => Promise<{ readonly guestMs: number }>): Promise<CommandTimes> {
  const overheadMs: number[] = [];
  for (let n = 0; n < commands; n++) {
    const started = performance.now();
    const { guestMs } = await command();
    overheadMs.push(performance.now() - started - guestMs);
  }
  return { overheadMs: overheadMs.slice(10) };
}

async function run(daemon: TestDaemon, id: string, cmd: string): Promise<{ stdout: string; guestMs: number }> {
  const response = await daemon.call('POST', `/v1/vms/${id}/exec`, { cmd });
  if (response.status !== 200) throw new Error(`exec: ${response.status} ${await response.text()}`);
  const guestMs = Number(/guest;dur=([\d.]+)/.exec(response.headers.get('server-timing') ?? '')?.[1]);
  return { stdout: ((await response.json()) as { stdout: string }).stdout, guestMs };
}

interface StepTiming {
  readonly name: string;
  readonly micros: number;
}

/** What the steps of each create so far took, from the daemon's log. */
function createSteps(daemon: TestDaemon): StepTiming[][] {
  return daemon
    .output()
    .split('\n')
    .filter((line) => line.includes('"operation":"create"') && line.includes('"steps"'))
    .map((line) => (JSON.parse(line) as { steps: StepTiming[] }).steps);
}
