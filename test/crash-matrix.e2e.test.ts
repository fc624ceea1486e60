/**
 * The crash matrix of a VM's life and of images: see {@link CrashSite}. An operation is one entry in `operations`. Its points are
 * the steps of its plan or, for what has no steps, every commit and every file operation.
 */

import assert from 'node:assert/strict';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCommand } from '../src/common/command.ts';
import { bootPlan, removePlan, startPlan, stopPlan } from '../src/vm/plans.ts';
import { CrashSite, type Operation, pointsOf, size } from './support/room/crash-site.ts';

describe('crash matrix', () => {
  let site: CrashSite;
  let rootfs: string;
  let snapshotId: string;

  const running = async () => (await site.call('create', { ...size, snapshotId })).id;
  const stopped = async () => (await site.call('stop', await running(), { force: true })).id;
  const newImage = async () => (await site.call('createImage', 'uploaded')).id;
  const uploadedImage = async () => (await site.call('putRootfs', await newImage(), rootfs)).id;
  const assertWhole = (id: string) => site.assertMarked(id);

  const operations: Readonly<Record<string, Operation>> = {
    create: {
      act: () => site.call('create', size),
      points: pointsOf('create', bootPlan),
      settles: 'as before',
      verify: async () => assert.equal((await site.call('list'))[0]?.state, 'running'),
    },
    start: {
      setUp: stopped,
      act: (id) => site.call('start', id),
      points: pointsOf('start', startPlan),
      settles: 'as before',
      verify: assertWhole,
    },
    stop: {
      setUp: running,
      act: (id) => site.call('stop', id),
      points: pointsOf('stop', stopPlan),
      settles: 'as done',
      verify: assertWhole,
    },
    reboot: {
      setUp: running,
      act: (id) => site.call('reboot', id),
      // Half of its points: a stop and a start have all of theirs above.
      points: [...pointsOf('stop', stopPlan), ...pointsOf('start', startPlan)].filter((_, index) => index % 2 === 1),
      settles: 'as done',
      done: (id) => site.call('stop', id, { force: true }),
      verify: assertWhole,
    },
    pause: { setUp: running, act: (id) => site.call('pause', id), points: 'effects', settles: 'either' },
    resume: {
      setUp: async () => (await site.call('pause', await running())).id,
      act: (id) => site.call('resume', id),
      points: 'effects',
      settles: 'either',
      verify: assertWhole,
    },
    resize: {
      setUp: stopped,
      act: (id) => site.call('resize', id, { memoryMiB: 300, diskMiB: 4096 }),
      points: 'effects',
      settles: 'either',
      verify: assertWhole,
    },
    remove: {
      setUp: running,
      act: (id) => site.call('remove', id),
      points: pointsOf('remove', removePlan),
      settles: 'as done',
    },
    'make an image': { act: newImage, points: 'effects', settles: 'either' },
    'upload a file': {
      setUp: newImage,
      act: (id) => site.call('putRootfs', id, rootfs),
      points: 'effects',
      settles: 'either',
    },
    'set the default image': {
      setUp: uploadedImage,
      act: (id) => site.call('setDefaultImage', id),
      points: 'effects',
      settles: 'either',
    },
    'remove an image': {
      setUp: uploadedImage,
      act: (id) => site.call('removeImage', id),
      points: 'effects',
      settles: 'either',
    },
  };

  before(async () => {
    site = await CrashSite.create();
    rootfs = join(site.home, 'uploaded.ext4');
    await writeFile(rootfs, '');
    await truncate(rootfs, 1024 * 1024);
    await runCommand('mkfs.ext4', ['-q', rootfs]);
    snapshotId = await site.keepMarked();
  });
  after(() => site?.[Symbol.asyncDispose]());

  for (const [name, operation] of Object.entries(operations)) it(name, () => site.test(name, operation));
});
