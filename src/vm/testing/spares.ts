import { until } from '../../common/testing/until.ts';
import type { FakeHost } from './fake-host.ts';

/** Waits until `count` spares stand by on a host; returns their ids. */
export async function sparesOf({ db }: FakeHost, count: number): Promise<readonly string[]> {
  const rows = () => db.all<{ id: string }>("SELECT id FROM vms WHERE hidden = 1 AND state = 'paused'");
  await until(`${count} spares stand by`, () => rows().length === count);
  return rows().map(({ id }) => id);
}
