import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { eventually } from './support/eventually.ts';
import { quiet } from './support/room/crash-site.ts';
import { inventory } from './support/room/inventory.ts';
import { Room } from './support/room/room.ts';

/**
 * The first start on a new data directory makes the database, table by table, and takes in the built image with an
 * initramfs for it. It is killed with SIGKILL in place of each thing it does; the next start must arrive where one that
 * nobody disturbs does.
 */
describe('the first start, killed at each of its effects', () => {
  async function inNewHome<T>(task: (home: string) => Promise<T>): Promise<T> {
    const home = await mkdtemp('/tmp/berth-test-');
    try {
      return await task(home);
    } finally {
      await rm(home, { recursive: true });
    }
  }

  async function afterStart(home: string): Promise<readonly string[]> {
    const room = await Room.open(home, quiet);
    try {
      const [image] = await room.call('images');
      assert.deepEqual([image?.name, image?.isDefault], ['sandbox', true]);
      return await inventory(home);
    } finally {
      await room.kill();
    }
  }

  it('is made up for by the next', async () => {
    // What the host's own settings were is noted by the start that changes them: one that nobody looks at.
    await inNewHome(afterStart);
    const undisturbed = await inNewHome(afterStart);
    let killed = 0;
    for (let isThrough = false; !isThrough; ) {
      const point = `effect ${killed + 1}`;
      await inNewHome(async (home) => {
        const room = Room.doomed(home, quiet, point);
        await eventually(`${point}, or the end of the start`, async () => room.hasEnded || room.hasOpened);
        isThrough = !room.hasEnded;
        await room.kill();
        assert.deepEqual(await afterStart(home), undisturbed, point);
      });
      if (!isThrough) killed++;
    }
    console.log(`\nfirst start: killed at ${killed} places, made up for by the next start each time`);
    assert.ok(killed > 20, `only ${killed} effects were seen`);
  });
});
