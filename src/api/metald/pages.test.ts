import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Vm } from '../../vm/model.ts';
import { sampleVm } from '../../vm/testing/sample-vm.ts';
import { page } from './pages.ts';

/** Number `n` of several, in order of creation; every third has the time of the one before. */
function vm(n: number): Vm {
  return sampleVm(n, {
    id: `vm-${String(n).padStart(3, '0')}`,
    createdAt: new Date(Date.UTC(2026, 0, 1) + Math.floor((n * 2) / 3)).toISOString(),
  });
}

/** As {@link vm}, with an id that says nothing of the order. */
function shuffled(n: number): Vm {
  return { ...vm(n), id: `vm-${(n * 7919) % 1009}` };
}

const ids = (vms: readonly Vm[]) => vms.map(({ id }) => id);

describe('pages', () => {
  it('show the newest first, 50 unless asked otherwise, and count all', () => {
    const vms = Array.from({ length: 120 }, (_, n) => vm(n));
    const first = page(vms, null, { pageSize: 0, pageToken: '' }, () => 1);
    assert.deepEqual([first.vms.length, first.vms[0]?.id, first.total], [50, 'vm-119', 120]);
    const second = page(vms, null, { pageSize: 50, pageToken: first.next }, () => 1);
    const third = page(vms, null, { pageSize: 50, pageToken: second.next }, () => 1);
    assert.deepEqual([third.vms.length, third.vms.at(-1)?.id, third.next, third.total], [20, 'vm-000', '', 120]);
  });

  it('have at most 1000', () => {
    const vms = Array.from({ length: 1500 }, (_, n) => vm(n));
    assert.equal(page(vms, null, { pageSize: 5000, pageToken: '' }, () => 1).vms.length, 1000);
  });

  it("begin where the reference's tokens say", () => {
    const vms = Array.from({ length: 60 }, (_, n) => vm(n));
    const { vms: shown } = page(vms, null, { pageSize: 5, pageToken: 'eyJvZmZzZXQiOjUwfQ==' }, () => 1);
    assert.deepEqual(ids(shown), ['vm-009', 'vm-008', 'vm-007', 'vm-006', 'vm-005']);
  });

  it('hold tokens that have the form of the reference', () => {
    const { next } = page([vm(0), vm(1)], null, { pageSize: 1, pageToken: '' }, () => 1);
    assert.equal(JSON.parse(Buffer.from(next, 'base64').toString()).offset, 1);
  });

  it('show each VM that stays exactly once, whatever comes and goes between them', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 60 }),
        fc.integer({ min: 1, max: 7 }),
        fc.array(fc.record({ added: fc.nat(3), removed: fc.array(fc.nat(100), { maxLength: 3 }) }), { maxLength: 40 }),
        (count, pageSize, turns) => {
          let vms = Array.from({ length: count }, (_, n) => shuffled(n));
          const stayed = new Set(ids(vms));
          const seen: string[] = [];
          const gone = new Set<string>();
          let token = '';
          let next = count;
          for (let turn = 0; turn === 0 || token !== ''; turn++) {
            const shown = page(vms, null, { pageSize, pageToken: token }, () => 1);
            seen.push(...ids(shown.vms));
            token = shown.next;
            const { added = 0, removed = [] } = turns[turn] ?? {};
            for (const index of removed) {
              const leaving = vms[index % Math.max(1, vms.length)];
              if (!leaving) continue;
              gone.add(leaving.id);
              stayed.delete(leaving.id);
            }
            vms = [...vms, ...Array.from({ length: added }, () => shuffled(next++))].filter(({ id }) => !gone.has(id));
          }
          assert.equal(new Set(seen).size, seen.length, 'none twice');
          for (const id of stayed) assert.ok(seen.includes(id), `${id} was left out`);
        },
      ),
    );
  });

  it('count and show only what is wanted', () => {
    const vms = Array.from({ length: 10 }, (_, n) => sampleVm(n, { state: n % 2 === 0 ? 'running' : 'stopped' }));
    const wanted = (candidate: Vm) => candidate.state === 'running';
    const first = page(vms, wanted, { pageSize: 3, pageToken: '' }, () => 1);
    assert.deepEqual([ids(first.vms), first.total], [['vm-8', 'vm-6', 'vm-4'], 5]);
    assert.deepEqual(ids(page(vms, wanted, { pageSize: 3, pageToken: first.next }, () => 1).vms), ['vm-2', 'vm-0']);
  });

  it('end where they would become too large, and have at least one', () => {
    const vms = Array.from({ length: 5 }, (_, n) => vm(n));
    const sizes: Readonly<Record<string, number>> = {
      'vm-004': 600_000,
      'vm-003': 400_000,
      'vm-002': 60_000,
      'vm-001': 2e6,
    };
    const sizeOf = ({ id }: Vm) => sizes[id] ?? 1;
    const seen: (readonly string[])[] = [];
    let pageToken = '';
    do {
      const shown = page(vms, null, { pageSize: 1000, pageToken }, sizeOf);
      assert.equal(shown.total, 5);
      seen.push(ids(shown.vms));
      pageToken = shown.next;
    } while (pageToken !== '');
    assert.deepEqual(seen, [['vm-004', 'vm-003'], ['vm-002'], ['vm-001'], ['vm-000']]);
  });

  for (const pageToken of [
    'junk!',
    'e30=',
    btoa('{"offset":-1}'),
    btoa('{"offset":1.5}'),
    btoa('{"offset":1,"at":5,"id":"x"}'),
    btoa('[1]'),
    btoa('null'),
    'A'.repeat(300),
  ]) {
    it(`refuse the token ${pageToken.slice(0, 40)}`, () => {
      assert.throws(() => page([], null, { pageSize: 1, pageToken }, () => 1), { code: 'invalid_argument' });
    });
  }

  it('refuse a negative size', () => {
    assert.throws(() => page([], null, { pageSize: -1, pageToken: '' }, () => 1), { code: 'invalid_argument' });
  });
});
