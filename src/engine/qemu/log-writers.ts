import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { signalProcess } from '../../common/processes.ts';
import { findByTitle } from './qemu-process.ts';

/** Waits until a VM's log writer has copied what was left, and ends it when it takes longer than `timeoutMs`. */
export async function logWritersEnded(engineLog: string, timeoutMs: number): Promise<void> {
  const title = `berth-log ${engineLog}`;
  const deadline = Date.now() + timeoutMs;
  let pids = await findByTitle(title);
  while (pids.length > 0 && Date.now() < deadline) {
    await delay(10);
    pids = await findByTitle(title);
  }
  for (const pid of pids) signalProcess(pid, 'SIGKILL');
}

/** The last kilobytes of a log, for the daemon's own log. */
export async function tail(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, Math.max(0, size - 4096));
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    return `(${(error as Error).message})`;
  }
}
