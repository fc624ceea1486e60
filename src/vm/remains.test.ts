import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { pino } from 'pino';
import { Serial } from '../common/concurrency.ts';
import type { Operations } from './operations.ts';
import { Remains } from './remains.ts';

describe('what is left of VMs that nobody sees', () => {
  /** Ids of the VMs there are. */
  let there: Set<string>;
  let asked: string[];
  let isFailing: boolean;
  let remains: Remains;

  beforeEach(() => {
    there = new Set(['a', 'b']);
    asked = [];
    isFailing = true;
    const operations = {
      deps: { log: pino({ level: 'silent' }) },
      records: { find: (id: string) => (there.has(id) ? { id } : undefined) },
      erase: async (id: string) => {
        asked.push(id);
        if (isFailing) throw new Error('it is not the time');
        there.delete(id);
      },
    };
    remains = new Remains(operations as unknown as Operations, new Serial());
  });

  it('is tried again until it is gone', async () => {
    await remains.erase('a');
    remains.note('b');
    await remains.retry();
    assert.deepEqual(
      [[...remains.ids], asked],
      [
        ['a', 'b'],
        ['a', 'a', 'b'],
      ],
    );
    isFailing = false;
    await remains.retry();
    assert.deepEqual([[...remains.ids], [...there]], [[], []]);
    await remains.retry();
    assert.equal(asked.length, 5);
  });

  it('is no more when somebody else has removed it', async () => {
    remains.note('nobody');
    assert.deepEqual([...remains.ids], []);
    await remains.erase('a');
    there.delete('a');
    await remains.retry();
    assert.deepEqual([[...remains.ids], asked], [[], ['a']]);
  });
});
