/**
 * Places where a test can make the daemon die or fail, named in BERTH_FAILPOINT: `create.disk.before` kills the process
 * with SIGKILL there, `create.disk.before=error` throws. Unset, a failpoint is one comparison.
 */
const [armedAt, armedAction] = (process.env.BERTH_FAILPOINT ?? '').split('=');

export function failpoint(name: string): void {
  if (name !== armedAt) return;
  if (armedAction === 'error') throw new Error(`failpoint ${name}`);
  process.kill(process.pid, 'SIGKILL');
}
