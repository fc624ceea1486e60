/**
 * Places where a test can make the process die or fail, named in BERTH_FAILPOINT or by {@link armFailpoint}:
 * `create.disk.before` kills it with SIGKILL there, `create.disk.before#2` when it comes there for the second time,
 * `create.disk.before=error` throws. Without one a failpoint is one comparison.
 */
let armed: string | undefined;
let action: string | undefined;
let passes = 0;
armFailpoint(process.env.BERTH_FAILPOINT ?? '');

/** Arms the failpoint in place of the one that was; an empty name disarms. */
export function armFailpoint(name: string): void {
  let place: string | undefined;
  [place, action] = name.split('=');
  const [point, count = '1'] = (place ?? '').split('#');
  armed = point;
  passes = Number(count) - 1;
}

export function failpoint(name: string): void {
  if (name !== armed || passes-- > 0) return;
  if (action === 'error') throw new Error(`failpoint ${name}`);
  process.kill(process.pid, 'SIGKILL');
}
