import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createTestApi, smallVm as small } from './testing/test-api.ts';

describe('snapshots', () => {
  test('are shown with both names of their VM', async () => {
    await using other = await createTestApi();
    const id = await other.createVm();
    const { status, json } = await other.call('POST', `/v1/vms/${id}/snapshots`);
    assert.equal(status, 201);
    assert.match(json.id, /^snap-/);
    const imageId = 'img-00000000-0000-4000-8000-000000000000';
    const expected = {
      id: json.id,
      kind: 'user_overlay',
      createdAt: '2026-01-02T03:04:05.678Z',
      cpu: 1,
      memMb: 256,
      imageId,
      baseSeedSnapshotId: `seed-${imageId}`,
      sourceVmId: id,
      vmId: id,
      hasDisk: false,
      hasOverlay: true,
    };
    assert.deepEqual(json, expected);
    assert.deepEqual((await other.call('GET', '/v1/snapshots')).json, [expected]);
    assert.deepEqual((await other.call('GET', '/v1/snapshots?scope=internal')).json, []);
  });

  test('the seed of a complete image is internal', async () => {
    await using other = await createTestApi();
    const image = await other.images.create({ name: 'n', description: 'd' });
    const stream = { 'content-type': 'application/octet-stream' };
    await other.call('PUT', `/v1/images/${image.id}/kernel`, 'k', stream);
    assert.deepEqual((await other.call('GET', '/v1/snapshots?scope=internal')).json, []);
    await other.call('PUT', `/v1/images/${image.id}/rootfs`, 'r', stream);
    const [seed] = (await other.call('GET', '/v1/snapshots?scope=internal')).json;
    assert.deepEqual([seed.id, seed.kind, seed.internal], [`seed-${image.id}`, 'image_seed', true]);
    assert.deepEqual((await other.call('GET', '/v1/snapshots')).json, []);
    assert.equal((await other.call('GET', '/v1/snapshots?scope=all')).json.length, 1);
  });
});

describe('images', () => {
  test('from creation to deletion', async () => {
    await using other = await createTestApi();
    const created = await other.call('POST', '/v1/images', { name: ' n ', description: 'd' });
    const { id } = created.json;
    assert.equal(created.status, 201);
    assert.match(id, /^img-/);
    const fresh = {
      id,
      name: 'n',
      description: 'd',
      createdAt: '2026-01-02T03:04:05.678Z',
      kernelFilename: null,
      rootfsFilename: null,
      baseRootfsBytes: null,
      seedSnapshotId: null,
      seedStatus: null,
      seedUpdatedAt: null,
      seedError: null,
    };
    assert.deepEqual(created.json, fresh);
    const stream = { 'content-type': 'application/octet-stream' };
    for (const part of ['kernel', 'rootfs']) {
      const answer = await other.call('PUT', `/v1/images/${id}/${part}`, 'bytes', stream);
      assert.deepEqual([answer.status, answer.text], [204, '']);
    }
    assert.equal((await other.call('POST', `/v1/images/${id}/set-default`)).status, 204);
    assert.deepEqual((await other.call('GET', '/v1/images')).json, [
      {
        ...fresh,
        kernelFilename: 'vmlinux',
        rootfsFilename: 'rootfs.ext4',
        baseRootfsBytes: 5,
        seedSnapshotId: `seed-${id}`,
        seedStatus: 'ready',
        seedUpdatedAt: '2026-01-02T03:04:05.678Z',
        kernelUploadedAt: '2026-01-02T03:04:05.678Z',
        rootfsUploadedAt: '2026-01-02T03:04:05.678Z',
        isDefault: true,
        hasKernel: true,
        hasRootfs: true,
      },
    ]);
    other.images.used.add(id);
    const refused = await other.call('DELETE', `/v1/images/${id}`);
    assert.deepEqual([refused.status, refused.text], [409, '{"message":"Image is in use by an active VM"}']);
    other.images.used.clear();
    assert.equal((await other.call('DELETE', `/v1/images/${id}`)).status, 204);
  });

  test('a bundle, and bodies that are none', async () => {
    await using other = await createTestApi();
    const { id } = await other.images.create({ name: 'n', description: 'd' });
    const put = (part: string, type: string, body: unknown) =>
      other.call('PUT', `/v1/images/${id}/${part}`, body, { 'content-type': type });
    assert.equal((await put('bundle', 'application/x-zip-compressed', 'zip')).status, 204);
    assert.equal((await put('kernel', 'application/json', {})).status, 415);
    assert.equal((await put('kernel', 'application/octet-stream', '')).status, 400);
    assert.equal((await other.call('PUT', `/v1/images/${id}/kernel`)).status, 415);
  });

  test('a VM may name its image', async () => {
    await using api = await createTestApi();
    const { id } = await api.images.create({ name: 'by-name', description: 'd' });
    await api.call('POST', '/v1/vms', { ...small, imageId: 'by-name' });
    assert.equal(api.vms.requests.at(-1)?.imageId, id);
  });
});
