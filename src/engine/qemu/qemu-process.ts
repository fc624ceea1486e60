import { setTimeout as delay } from 'node:timers/promises';
import { listPids, readProcessFile, signalProcess } from '../../common/processes.ts';

/**
 * A process that cannot be confused with another: the kernel reuses pids, but never a pid with the same start time.
 * Nothing is recorded on disk; what a VM's process is, its own command line says.
 */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since the host booted. */
  readonly startTime: string;
}

export interface VmProcess extends ProcessIdentity {
  readonly id: string;
  readonly dir: string;
}

const label = /^berth-(.+?):(\/.*),process=berth-vm$/s;

/** The value of QEMU's `-name` that marks a VM's process; commas are doubled, as QEMU asks. */
export function processLabel(id: string, dir: string): string {
  return `berth-${id}:${dir}`.replaceAll(',', ',,').concat(',process=berth-vm');
}

/** The VM that a command line (NUL-separated, as in /proc) belongs to. */
export function parseCommandLine(commandLine: string): { readonly id: string; readonly dir: string } | null {
  const args = commandLine.split('\0');
  const found = label.exec(args[args.indexOf('-name') + 1] ?? '');
  return found === null ? null : { id: undouble(found[1]!), dir: undouble(found[2]!) };
}

export interface ProcessStat {
  /** One letter: R, S, T, Z, ... */
  readonly state: string;
  readonly session: number;
  /** Clock ticks in user mode and in the kernel. */
  readonly cpuTicks: number;
  /** Those that have not ended, a zombie's own among them. */
  readonly threads: number;
  readonly startTime: string;
}

/** Whether nothing is left of a process but its exit status: as long as a thread is, so are its files and their locks. */
function hasEnded({ state, threads }: ProcessStat): boolean {
  return state === 'X' || (state === 'Z' && threads <= 1);
}

/** Reads /proc/<pid>/stat's text. The command's name may itself contain spaces and parentheses. */
export function parseStat(text: string): ProcessStat {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return {
    state: fields[0] ?? '',
    session: Number(fields[3]),
    cpuTicks: Number(fields[11]) + Number(fields[12]),
    threads: Number(fields[17]),
    startTime: fields[19] ?? '',
  };
}

/** The processes of VMs on this host, as the kernel tells. */
export class ProcessTable {
  readonly #known = new Map<string, VmProcess>();
  #scan: Promise<readonly VmProcess[]> | null = null;
  #next: Promise<readonly VmProcess[]> | null = null;

  /** The live process of a VM, or null. */
  async find(id: string, dir: string): Promise<VmProcess | null> {
    const known = this.#known.get(dir);
    if (known !== undefined && known.id === id && (await this.isAlive(known))) return known;
    const found = (await this.list()).find((process) => process.id === id && process.dir === dir) ?? null;
    if (found === null) this.#known.delete(dir);
    else this.#known.set(dir, found);
    return found;
  }

  /** Takes note of a VM's process that was just started and lives, so that it need not be looked for. */
  async learn(id: string, dir: string, pid: number): Promise<void> {
    const stat = await readStat(pid);
    if (stat !== null) this.#known.set(dir, { id, dir, pid, startTime: stat.startTime });
  }

  /** All live VM processes of this host, of any daemon. A call made during a scan shares the one after it. */
  list(): Promise<readonly VmProcess[]> {
    if (this.#scan === null) return this.#begin();
    this.#next ??= this.#scan.then(
      () => this.#begin(),
      () => this.#begin(),
    );
    return this.#next;
  }

  /** True while this very process runs. */
  async isAlive(process: VmProcess): Promise<boolean> {
    const stat = await readStat(process.pid);
    return stat !== null && stat.startTime === process.startTime && !hasEnded(stat);
  }

  /** Kills this very process; does nothing when it is gone. Resolves false when it still lives after `timeoutMs`. */
  async kill(process: VmProcess, timeoutMs: number): Promise<boolean> {
    // The check and the signal are microseconds apart: far too little for the kernel to go round all pids.
    if (await this.isAlive(process)) signalProcess(process.pid, 'SIGKILL');
    const ended = await this.waitForEnd(process, timeoutMs);
    if (ended) this.#known.delete(process.dir);
    return ended;
  }

  /** Resolves true once the process is gone, false after `timeoutMs`. */
  async waitForEnd(process: VmProcess, timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    for (let pause = 2; await this.isAlive(process); pause = Math.min(pause * 2, 50)) {
      if (Date.now() >= deadline) return false;
      await delay(pause);
    }
    return true;
  }

  #begin(): Promise<readonly VmProcess[]> {
    this.#next = null;
    const scan = scanProcesses().finally(() => {
      if (this.#scan === scan) this.#scan = null;
    });
    this.#scan = scan;
    return scan;
  }
}

/** What the kernel says of a process, or null when there is none. */
export async function readStat(pid: number): Promise<ProcessStat | null> {
  const text = await readProcessFile(pid, 'stat');
  return text === null ? null : parseStat(text);
}

/** Pids of the processes whose whole command line is `title`: those that renamed themselves, as log writers do. */
export async function findByTitle(title: string): Promise<readonly number[]> {
  const pids = await listPids();
  const titles = await Promise.all(pids.map(async (pid) => await readProcessFile(pid, 'cmdline')));
  return pids.filter((_, index) => titles[index]?.replace(/[\0 ]+$/, '') === title);
}

async function scanProcesses(): Promise<readonly VmProcess[]> {
  const found = await Promise.all((await listPids()).map(inspect));
  return found.filter((process) => process !== null);
}

async function inspect(pid: number): Promise<VmProcess | null> {
  const vm = parseCommandLine((await readProcessFile(pid, 'cmdline')) ?? '');
  if (vm === null) return null;
  const stat = await readStat(pid);
  // The launcher's log writer has the same command line until it renames itself, but does not lead the session.
  if (stat === null || stat.session !== pid || hasEnded(stat)) return null;
  return { ...vm, pid, startTime: stat.startTime };
}

function undouble(value: string): string {
  return value.replaceAll(',,', ',');
}
