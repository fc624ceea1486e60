import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { closedOnTheWay } from './reachable.ts';

it('the topmost directory that others may not pass through is found', async () => {
  const top = await mkdtemp('/tmp/berth-reach-');
  try {
    const home = join(top, 'a', 'b', 'home');
    await mkdir(home, { recursive: true });
    // Its own rights are the daemon's to set.
    await chmod(home, 0o700);
    assert.equal(await closedOnTheWay(home), top);
    await chmod(top, 0o711);
    assert.equal(await closedOnTheWay(home), null);
    await chmod(join(top, 'a', 'b'), 0o750);
    assert.equal(await closedOnTheWay(home), join(top, 'a', 'b'));
  } finally {
    await rm(top, { recursive: true });
  }
});
