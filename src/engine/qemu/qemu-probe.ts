import { randomBytes } from 'node:crypto';
import { chown, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../../common/files.ts';
import type { Log } from '../../common/log.ts';
import type { EngineVmSpec } from '../engine.ts';
import { isObject } from './qemu-qmp.ts';
import { tinyInitramfs } from './tiny-initramfs.ts';
import { powerOff, print, program } from './tiny-program.ts';

/** Milliseconds in which a kernel under working KVM has long booted and powered off; it needs about 300. */
const bootMs = 8000;
/** Age of a probe's directory at which no probe can still be using it. */
const leftoverMs = 10 * 60 * 1000;
const marker = 'berth-acceleration-probe-reached-user-space';

export interface Acceleration {
  readonly kind: 'kvm' | 'tcg';
  /** Why, for `berth doctor` and the log. */
  readonly reason: string;
}

/** What the answer depends on. */
export interface ProbeKey {
  readonly kernel: string;
  readonly qemuVersion: string;
  readonly hostBoot: string;
}

/** Where /dev/kvm stands for processes of `uid`. */
export type KvmAccess =
  | { readonly usable: true; readonly group: number | null }
  | { readonly usable: false; readonly reason: string };

/** Finds out whether a process of `uid` could open /dev/kvm, and with which supplementary group. */
export async function kvmAccess(uid: number | null, device = '/dev/kvm'): Promise<KvmAccess> {
  let info: Awaited<ReturnType<typeof stat>>;
  try {
    info = await stat(device);
  } catch {
    return { usable: false, reason: `${device} does not exist` };
  }
  const readWrite = (shift: number) => ((info.mode >> shift) & 6) === 6;
  if (uid === null || uid === 0 || info.uid === uid || readWrite(0)) return { usable: true, group: null };
  if (readWrite(3) && info.gid !== 0) return { usable: true, group: info.gid };
  return {
    usable: false,
    reason: `${device} is not accessible to unprivileged users; give it to a group with mode 0660`,
  };
}

/** Identifies a kernel file without reading it. */
export async function kernelKey(path: string): Promise<string> {
  const { size, mtimeMs, ino } = await stat(path);
  return `${size}-${mtimeMs}-${ino}`;
}

/** Answers that are remembered: hosts have a few kernels. */
const maxAnswers = 32;

/** Remembers answers in a file, shared by the daemons of a host. An unreadable one counts as none. */
export class ProbeCache {
  readonly #path: string;
  readonly #log: Log;

  constructor(stateDir: string, log: Log) {
    this.#path = join(stateDir, 'acceleration.json');
    this.#log = log;
  }

  async get(key: ProbeKey): Promise<Acceleration | null> {
    const answer = (await this.#read())[JSON.stringify(key)];
    if (!isObject(answer)) return null;
    const { kind, reason } = answer;
    return (kind === 'kvm' || kind === 'tcg') && typeof reason === 'string' ? { kind, reason } : null;
  }

  async put(key: ProbeKey, answer: Acceleration): Promise<void> {
    const others = Object.entries(await this.#read()).slice(-maxAnswers + 1);
    await writeFileAtomic(this.#path, JSON.stringify(Object.fromEntries([...others, [JSON.stringify(key), answer]])));
  }

  async #read(): Promise<Readonly<Record<string, unknown>>> {
    try {
      const saved: unknown = JSON.parse(await readFile(this.#path, 'utf8'));
      return isObject(saved) ? saved : {};
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.#log.warn({ err: error }, 'acceleration probe is repeated');
      return {};
    }
  }
}

/** The part of the engine that the probe uses: it boots a VM like any other. */
export interface ProbeRunner {
  start(spec: EngineVmSpec): Promise<void>;
  waitForExit(id: string, dir: string, timeoutMs: number): Promise<boolean>;
  destroy(id: string, dir: string): Promise<void>;
  consoleLog(dir: string): string;
}

/**
 * Boots `kernel` under KVM with an initramfs that prints a line and powers off. /dev/kvm can be there and yet hang a kernel
 * (nested virtualization is one reason), and only this tells. Leaves no process and no file.
 */
export async function bootUnderKvm(options: {
  readonly runner: ProbeRunner;
  readonly stateDir: string;
  readonly kernel: string;
  readonly uid: number | null;
  readonly log: Log;
  readonly deadlineMs?: number;
}): Promise<Acceleration> {
  const { runner, kernel, uid, deadlineMs = bootMs } = options;
  const id = `probe-${randomBytes(6).toString('hex')}`;
  await removeLeftovers(options.stateDir);
  const dir = join(options.stateDir, id);
  await mkdir(dir, { mode: 0o711 });
  try {
    if (uid !== null) await chown(dir, uid, uid);
    const initrd = join(dir, 'initrd');
    await writeFile(initrd, tinyInitramfs(program(print(`${marker}\n`), powerOff())), { mode: 0o644 });
    await runner.start({
      ...{ id, dir, uid, kernel, initrd, cpus: 1, memoryMiB: 256, kernelArgs: ['quiet'], disks: [], nics: [] },
      machine: 'microvm',
      limits: { cpuPercent: null, memoryOverheadMiB: null },
    });
    const ended = await runner.waitForExit(id, dir, deadlineMs);
    // Also waits until the console log is complete.
    await runner.destroy(id, dir);
    const reached = (await readFile(runner.consoleLog(dir), 'utf8')).includes(marker);
    if (ended && reached) return { kind: 'kvm', reason: 'a kernel booted under KVM' };
    return {
      kind: 'tcg',
      reason: reached
        ? 'a guest under KVM could not power off'
        : `the kernel did not boot under KVM within ${deadlineMs / 1000} s`,
    };
  } catch (error) {
    options.log.warn({ err: error }, 'KVM probe failed');
    return { kind: 'tcg', reason: 'QEMU could not start with KVM' };
  } finally {
    await runner.destroy(id, dir);
    await rm(dir, { recursive: true, force: true });
  }
}

/** Directories of probes whose daemon was killed; their processes ended with it. */
async function removeLeftovers(stateDir: string): Promise<void> {
  for (const name of await readdir(stateDir)) {
    if (!name.startsWith('probe-')) continue;
    const path = join(stateDir, name);
    const found = await stat(path).catch(() => null);
    if (found !== null && Date.now() - found.mtimeMs > leftoverMs) await rm(path, { recursive: true, force: true });
  }
}
