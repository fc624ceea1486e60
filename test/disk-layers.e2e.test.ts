/** Disk layers of a real VM are merged while its guest writes, with its files held against their SHA-256. */

import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { eventually } from './support/eventually.ts';
import { quiet, size } from './support/room/crash-site.ts';
import { Room } from './support/room/room.ts';

const count = 12;
/** As `disk.merge_layers` is by itself. */
const merged = 8;

/** Writes a few files over and over, each with its checksum, until there is a file `enough`. */
const writer = `cd /workspace && rm -f enough && (setsid sh -c '
  n=0
  while [ ! -e enough ]; do
    n=$((n % 5 + 1))
    head -c 300000 /dev/urandom > churn.$n && sha256sum churn.$n > churn.$n.sum && sync churn.$n churn.$n.sum
    sleep 0.2
  done
  touch done' > /dev/null 2>&1 < /dev/null &)`;
const writerEnds = 'cd /workspace && touch enough && while [ ! -e done ]; do sleep 0.1; done; rm done';
/** What is read then comes from the disk. */
const fromDisk = 'sync && echo 3 > /proc/sys/vm/drop_caches && cd /workspace';

describe('disk layers', () => {
  let home: string;
  let room: Room;
  let id: string;
  const snapshots: string[] = [];

  before(async () => {
    home = await mkdtemp('/tmp/berth-test-');
    room = await Room.open(home, quiet);
    id = (await room.call('create', size)).id;
  });
  after(async () => {
    for (const vm of await room.call('list')) await room.call('remove', vm.id);
    await room.kill();
    await rm(home, { recursive: true, force: true });
  });

  const layers = async () => (await readdir(join(home, 'vms', id))).filter((name) => name.startsWith('layer-')).length;
  /** Fails unless all files are there, read from the disk, that were when the given snapshot was taken; and no more. */
  const assertFiles = async (vmId: string, taken: number) => {
    const output = await room.call(
      'shell',
      vmId,
      `${fromDisk} && sha256sum -c --quiet file.*.sum && ls file.*.sum | wc -l`,
    );
    assert.equal(output.trim(), String(taken));
  };
  const assertChurn = (vmId: string) => room.call('shell', vmId, `${fromDisk} && sha256sum -c --quiet churn.*.sum`);

  it('are merged after many snapshots in a row, while the guest writes', async () => {
    await room.call('shell', id, writer);
    for (let taken = 1; taken <= count; taken++) {
      const file = `file.$(printf %02d ${taken})`;
      await room.call(
        'shell',
        id,
        `cd /workspace && head -c 1500000 /dev/urandom > ${file} && sha256sum ${file} > ${file}.sum`,
      );
      snapshots.push((await room.call('snapshot', id)).id);
    }
    await eventually('the layers are merged', async () => (await layers()) <= merged);
    await assertFiles(id, count);
    await room.call('shell', id, writerEnds);
    await assertChurn(id);
    assert.equal((await room.call('list'))[0]?.state, 'running');
  });

  it('hold what they held when the VM has booted from them', async () => {
    await room.call('reboot', id);
    await assertFiles(id, count);
    await assertChurn(id);
  });

  it('of old snapshots are what they were, with memory and without', async () => {
    const restored = await room.call('create', { ...size, snapshotId: snapshots[2]! });
    await assertFiles(restored.id, 3);
    await room.call('remove', restored.id);
    const latest = await room.call('create', { ...size, snapshotId: snapshots.at(-1)! });
    await room.call('shell', latest.id, writerEnds);
    await assertFiles(latest.id, count);
    await assertChurn(latest.id);
    await room.call('remove', latest.id);
    const booted = await room.call('create', { ...size, snapshotId: snapshots[9]!, restoreMemory: false });
    await assertFiles(booted.id, 10);
  });
});
