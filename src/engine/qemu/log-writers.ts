import { setTimeout as delay } from 'node:timers/promises';
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
  for (const pid of pids) process.kill(pid, 'SIGKILL');
}
