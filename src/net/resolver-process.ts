import { setTimeout as sleep } from 'node:timers/promises';
import { listPids, readProcessFile, signalProcess } from '../common/processes.ts';

/** Ids of processes whose command line is exactly `argv`. */
export async function findProcesses(argv: readonly string[]): Promise<readonly number[]> {
  const found: number[] = [];
  for (const pid of await listPids()) if (await isProcess(pid, argv)) found.push(pid);
  return found;
}

/**
 * Ends a process that {@link findProcesses} found: SIGTERM, then SIGKILL after two seconds. The command line is looked at
 * before each signal, so that no process that got the id since is hit. Resolves when it is gone.
 */
export async function endProcess(pid: number, argv: readonly string[]): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!(await isProcess(pid, argv))) return;
    signalProcess(pid, signal);
    for (let waited = 0; waited < 2000; waited += 20) {
      await sleep(20);
      if (!(await isProcess(pid, argv))) return;
    }
  }
  throw new Error(`process ${pid} does not end`);
}

async function isProcess(pid: number, argv: readonly string[]): Promise<boolean> {
  // A zombie's command line is empty: for our purpose it is gone.
  return (await readProcessFile(pid, 'cmdline')) === `${argv.join('\0')}\0`;
}
