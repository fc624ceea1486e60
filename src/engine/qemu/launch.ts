import { type ChildProcess, spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Standby } from '../../common/standby.ts';
import type { EngineMemory, EngineVmSpec } from '../engine.ts';
import { memoryDescriptor, stateDescriptor, tapDescriptors } from './qemu-args.ts';
import { vmFiles } from './vm-files.ts';

const launcher = fileURLToPath(new URL('launch.pl', import.meta.url));

export interface LaunchOptions {
  readonly spec: Pick<EngineVmSpec, 'id' | 'dir' | 'uid' | 'nics'>;
  readonly qemu: string;
  readonly qemuArgs: readonly string[];
  /** Files to write the pid to before anything else happens. */
  readonly cgroupFiles: readonly string[];
  /** Bytes after which a log is rotated; it takes at most twice as much on disk. */
  readonly logBytes: { readonly console: number; readonly engine: number };
  /** Captured memory, and the state that belongs to it, for the process to open; null when it boots. */
  readonly memory: EngineMemory | null;
  /** Whether the process is to end with the daemon, however that ends. A VM's outlives it. */
  readonly endsWithDaemon: boolean;
  /** Group that may open /dev/kvm, when the process needs one. */
  readonly kvmGroup: number | null;
}

/** A process that waits to become a VM's. */
type Launcher = ChildProcess & { readonly stdin: Writable & { unref?(): void } };

/**
 * Starts VMs' processes, each in a session of its own, so that it outlives this one. It enters its cgroups and gets its
 * sockets, taps and logs (see launch.pl), then gives up its privileges for good and becomes QEMU, always with the child's
 * pid. One launcher stands by: what it takes to start it is no part of a VM's start.
 */
export class Launchers {
  readonly #standby = new Standby<Launcher>({
    start: startLauncher,
    hasEnded: ({ exitCode, signalCode }) => exitCode !== null || signalCode !== null,
    // Without anything to do it ends.
    dismiss: ({ stdin }) => stdin.end(),
  });

  async launch(options: LaunchOptions): Promise<ChildProcess> {
    const child = await this.#standby.take();
    child.stdin.end(`${launcherArgs(options).join('\0')}\0\n`);
    return child;
  }

  close(): void {
    this.#standby.close();
  }
}

async function startLauncher(): Promise<Launcher> {
  const child = spawn('perl', [launcher], {
    cwd: '/',
    detached: true,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C' },
    stdio: ['pipe', 'ignore', 'ignore'],
  }) as Launcher;
  // One that ends early is noticed by its end.
  child.stdin.on('error', () => {});
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.once('spawn', resolve);
  child.once('error', reject);
  await promise;
  child.unref();
  child.stdin.unref?.();
  return child;
}

function launcherArgs(options: LaunchOptions): string[] {
  const { spec, qemu, qemuArgs, cgroupFiles, logBytes, memory, endsWithDaemon, kvmGroup } = options;
  const files = vmFiles(spec.dir);
  return [
    ...cgroupFiles.flatMap((file) => ['--cgroup', file]),
    ...['--socket', `qmp=${files.qmpSocket}`],
    ...['--socket', `guest=${files.guestSocket}`],
    ...tapDescriptors(spec).flatMap(({ name, tap }) => ['--tap', `${name}=${tap}`]),
    ...['--log', `engine=${logBytes.engine}=${files.engineLog}`],
    ...['--log', `console=${logBytes.console}=${files.consoleLog}`],
    ...(memory === null
      ? []
      : [
          ...['--file', `${memoryDescriptor}=${ownDescriptor(memory.memoryFd)}`],
          ...['--file', `${stateDescriptor}=${ownDescriptor(memory.stateFd)}`],
        ]),
    ...['--uid', spec.uid === null ? '-' : String(spec.uid)],
    '--',
    ...privileges(spec.uid, kvmGroup, endsWithDaemon),
    qemu,
    ...qemuArgs,
  ];
}

/** A file of this process as another one can open it. */
function ownDescriptor(fd: number): string {
  return `/proc/${process.pid}/fd/${fd}`;
}

function privileges(uid: number | null, kvmGroup: number | null, endsWithDaemon: boolean): string[] {
  const fate = endsWithDaemon ? ['--pdeathsig', 'KILL'] : [];
  if (uid === null) return ['setpriv', ...fate, '--no-new-privs', '--'];
  const groups = kvmGroup === null ? '--clear-groups' : `--groups=${kvmGroup}`;
  return [
    'setpriv',
    ...fate,
    `--reuid=${uid}`,
    `--regid=${uid}`,
    groups,
    '--bounding-set=-all',
    '--inh-caps=-all',
    '--no-new-privs',
    '--',
  ];
}
