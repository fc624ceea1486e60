import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Haste } from './haste.ts';

describe('haste', () => {
  it('is told to the grace under way of that VM, and to one that begins meanwhile', async () => {
    const haste = new Haste();
    const isCut = (id: string) => haste.grace(id, async (hurry) => hurry.aborted);
    await haste.grace('a', (underWay) =>
      haste.grace('b', (other) =>
        haste.during('a', async () => assert.deepEqual([underWay.aborted, other.aborted], [true, false])),
      ),
    );
    await haste.during('a', () =>
      haste.during('a', async () => assert.deepEqual([await isCut('a'), await isCut('b')], [true, false])),
    );
    assert.equal(await isCut('a'), false);
  });

  it('everywhere cuts all of them', async () => {
    const haste = new Haste();
    await haste.grace('a', async (hurry) => {
      haste.everywhere();
      assert.equal(hurry.aborted, true);
    });
    assert.equal(await haste.grace('b', async (hurry) => hurry.aborted), true);
  });
});
