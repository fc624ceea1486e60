import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
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
  /** Captured memory, and the state that belongs to it, for the process to inherit; null when it boots. */
  readonly memory: EngineMemory | null;
  /** Whether the process is to end with the daemon, however that ends. A VM's outlives it. */
  readonly endsWithDaemon: boolean;
  /** Group that may open /dev/kvm, when the process needs one. */
  readonly kvmGroup: number | null;
}

/**
 * Starts a VM's process in a session of its own, so that it outlives this one. It enters its cgroups and gets its sockets,
 * taps and logs (see launch.pl), then gives up its privileges for good and becomes QEMU, always with the child's pid.
 */
export async function launch(options: LaunchOptions): Promise<ChildProcess> {
  const { spec, memory } = options;
  const files = vmFiles(spec.dir);
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW } = constants;
  // Whatever goes wrong before the log writer is there.
  const errors = await open(files.engineLog, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
  try {
    const child = spawn('perl', [launcher, ...launcherArgs(options)], {
      cwd: '/',
      detached: true,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C' },
      // Descriptors 3 and 4 are memoryDescriptor and stateDescriptor.
      stdio: ['ignore', 'ignore', errors.fd, ...(memory === null ? [] : [memory.memoryFd, memory.stateFd])],
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    child.once('spawn', resolve);
    child.once('error', reject);
    await promise;
    child.unref();
    return child;
  } finally {
    await errors.close();
  }
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
    ...(memory === null ? [] : ['--inherited', String(memoryDescriptor), '--inherited', String(stateDescriptor)]),
    ...['--uid', spec.uid === null ? '-' : String(spec.uid)],
    '--',
    ...privileges(spec.uid, kvmGroup, endsWithDaemon),
    qemu,
    ...qemuArgs,
  ];
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
