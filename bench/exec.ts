import { createVm } from '../test/support/api.ts';
import { startDaemon } from '../test/support/daemon.ts';
import { startBareVm } from './bare-qemu.ts';
import { guestKernelArgs, imageFiles } from './guest.ts';
import { RawClient } from './raw-client.ts';
import { type Row, times } from './report.ts';

const commands = 200;
/** Of each series, before it counts: code is compiled, connections are made. */
const warmUp = 10;

/** Commands through the HTTP API, beside the same over the guest channel alone, in turns. Less the guest's own time for each. */
export async function benchExec(): Promise<Row[]> {
  await using daemon = await startDaemon();
  const vm = await createVm(daemon);
  const bare = await startBareVm(imageFiles(daemon), await guestKernelArgs(daemon, vm.id));
  using client = await RawClient.connect(daemon);
  const viaHttp: number[] = [];
  const viaChannel: number[] = [];
  try {
    for (let n = 0; n < warmUp + commands; n++) {
      viaHttp.push(await overhead(() => client.runTrue(vm.id)));
      viaChannel.push(
        await overhead(async () => {
          const exec = bare.guest.exec({ argv: ['/bin/true'], cwd: '/', env: {}, uid: 0, gid: 0, timeoutMs: 10_000 });
          exec.stdout.resume();
          exec.stderr.resume();
          return { guestMs: (await exec.exit).durationMicros / 1000 };
        }),
      );
    }
  } finally {
    await bare.end();
  }
  return [
    times({
      what: "exec true through HTTP, less the guest's own time",
      ms: viaHttp.slice(warmUp),
      floor: { what: 'guest channel alone', ms: viaChannel.slice(warmUp) },
      atMost: { ms: 10 },
    }),
  ];
}

/** Milliseconds beyond what the guest measured. */
async function overhead(command: () => Promise<{ readonly guestMs: number }>): Promise<number> {
  const started = performance.now();
  const { guestMs } = await command();
  return performance.now() - started - guestMs;
}
