import assert from 'node:assert/strict';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createVm, exec, expectStatus, output, smallVm, type WireVm } from './support/api.ts';
import { listenForAnnouncements } from './support/arp.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { eventually } from './support/eventually.ts';
import { noTraces, traces } from './support/leftovers.ts';
import { runBerth } from './support/serve.ts';

interface Renewed extends WireVm {
  readonly renewal?: readonly { readonly name: string; readonly outcome: string; readonly detail: string }[];
}

const count = 20;
/** The clock in milliseconds, then what no two machines may have in common. */
const ownThings = [
  'date +%s%3N',
  'od -An -tx1 -N16 /dev/urandom',
  'cat /etc/machine-id',
  'hostname',
  'cat /sys/class/net/e*/address',
  'cat /proc/sys/kernel/random/uuid',
].join('; ');
const env = { BERTH_TEMPLATE_BUILD: 'true', BERTH_QUOTA_TOTAL_CPUS: '64' };

/** The directories of what VMs are cloned from. */
async function snapshotDirectories({ home }: TestDaemon): Promise<string[]> {
  return (await readdir(join(home, 'snapshots'))).map((name) => join(home, 'snapshots', name));
}

/** Waits until the template that a first boot leaves behind is there, and nothing of its making. */
async function templateOf(daemon: TestDaemon): Promise<string> {
  await eventually('the template is built', async () => {
    const { rows } = await traces(daemon.home);
    const templates = rows.filter((row) => row.startsWith('snapshot'));
    const vms = rows.filter((row) => row.startsWith('vm'));
    const seen = await expectStatus<WireVm[]>(daemon, 200, 'GET', '/v1/vms');
    return templates.length === 1 && vms.length === seen.length;
  });
  const [directory] = await snapshotDirectories(daemon);
  assert.ok(directory);
  return directory;
}

async function removeAll(daemon: TestDaemon): Promise<void> {
  for (const { id } of await expectStatus<WireVm[]>(daemon, 200, 'GET', '/v1/vms'))
    await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${id}`);
}

/** Changes one byte in the middle of a file. */
async function damage(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const { size } = await file.stat();
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, size >> 1);
  byte[0] = (byte[0] ?? 0) ^ 0xff;
  await file.write(byte, 0, 1, size >> 1);
}

describe('clones', () => {
  let daemon: TestDaemon;

  before(async () => {
    daemon = await startDaemon({ env });
  });
  after(() => daemon.stop());

  it('of a template come after the first boot, and show as boots', async () => {
    const first: Renewed = await createVm(daemon);
    assert.equal(first.renewal, undefined);
    await templateOf(daemon);
    const second: Renewed = await createVm(daemon);
    assert.equal(second.provisionMode, 'boot');
    const done = second.renewal?.filter(({ outcome }) => outcome === 'done').map(({ name }) => name) ?? [];
    for (const name of ['clock', 'entropy', 'network', 'hostname', 'machine-id'])
      assert.ok(done.includes(name), `${name} of ${JSON.stringify(second.renewal)}`);
    assert.deepEqual(
      second.renewal?.filter(({ outcome }) => outcome === 'failed'),
      [],
    );
    assert.deepEqual(await expectStatus(daemon, 200, 'GET', '/v1/snapshots'), []);
    await removeAll(daemon);
  });

  it('are machines of their own, which tell the network where they are', async () => {
    using arp = await listenForAnnouncements();
    const vms = await Promise.all(Array.from({ length: count }, () => createVm(daemon)));
    const identities: { clock: number; before: number; after: number; own: string[] }[] = [];
    for (const { id } of vms) {
      const before = Date.now();
      const [clock = '', ...own] = (await output(daemon, id, ownThings)).trim().split('\n');
      identities.push({ clock: Number(clock), before, after: Date.now(), own });
    }
    for (const [n, { clock, before, after }] of identities.entries())
      assert.ok(clock > before - 50 && clock < after + 50, `clock ${n}: ${clock}, host ${before} to ${after}`);
    const [{ own: first } = { own: [] }] = identities;
    assert.equal(first.length, 5);
    for (const part of first.keys()) {
      const values = identities.map(({ own }) => own[part]);
      assert.equal(new Set(values).size, count, `part ${part}: ${values}`);
    }
    assert.equal(new Set(vms.map(({ guestIp }) => guestIp)).size, count);
    const told = vms.map(({ guestIp }, n) => `${identities[n]?.own[3]} ${guestIp}`);
    await eventually(`announced: ${told}, heard: ${[...arp.announced]}`, async () =>
      told.every((address) => arp.announced.has(address)),
    );
    const address = await output(daemon, vms[0]!.id, 'ip -o -4 addr show scope global');
    assert.match(address, new RegExp(` ${vms[0]!.guestIp.replaceAll('.', '\\.')}/`));
    assert.equal(address.trim().split('\n').length, 1);
    await removeAll(daemon);
  });

  it('have the disk they are asked for, and keep it over stop and start', async () => {
    const { id } = await createVm(daemon, { diskSizeMb: 3000 });
    const size = 'df --output=size -m / | tail -1';
    assert.ok(Number(await output(daemon, id, size)) > 2500);
    await output(daemon, id, 'echo kept > /workspace/kept; sync');
    await expectStatus(daemon, 204, 'POST', `/v1/vms/${id}/stop`);
    await expectStatus(daemon, 204, 'POST', `/v1/vms/${id}/start`);
    assert.equal(await output(daemon, id, 'cat /workspace/kept'), 'kept\n');
    assert.ok(Number(await output(daemon, id, size)) > 2500);
    await removeAll(daemon);
  });

  it('of a snapshot go on with memory and processes, and the snapshot may go', async () => {
    const source = await createVm(daemon);
    await output(daemon, source.id, 'echo in memory > /dev/shm/mark; (setsid sleep 10000 >/dev/null 2>&1 &)');
    const snapshot = await expectStatus<{ id: string; kind: string }>(
      daemon,
      201,
      'POST',
      `/v1/vms/${source.id}/snapshots`,
    );
    assert.equal(snapshot.kind, 'vm');
    await output(daemon, source.id, 'echo later > /dev/shm/mark');
    const copy: Renewed = await createVm(daemon, { snapshotId: snapshot.id });
    assert.equal(copy.provisionMode, 'snapshot');
    assert.equal(await output(daemon, copy.id, 'cat /dev/shm/mark'), 'in memory\n');
    const booted = await createVm(daemon, { snapshotId: snapshot.id, restoreMemory: false, memMb: 512 });
    assert.equal(booted.provisionMode, 'boot');
    assert.notEqual((await exec(daemon, booted.id, 'cat /dev/shm/mark')).exitCode, 0);
    const refused = await daemon.call('POST', '/v1/vms', {
      ...{ cpu: 1, memMb: 512, allowIps: [], outboundInternet: false },
      snapshotId: snapshot.id,
    });
    assert.equal(refused.status, 400);
    assert.match(((await refused.json()) as { message: string }).message, /snapshot=1\/256 requested=1\/512/);
    // A copy of a copy, made of what the copy changed and what it did not.
    await output(daemon, copy.id, 'echo of the copy > /dev/shm/mark');
    const second = await expectStatus<{ id: string }>(daemon, 201, 'POST', `/v1/vms/${copy.id}/snapshots`);
    const grandchild = await createVm(daemon, { snapshotId: second.id });
    assert.equal(await output(daemon, grandchild.id, 'cat /dev/shm/mark'), 'of the copy\n');
    await expectStatus(daemon, 204, 'DELETE', `/v1/snapshots/${second.id}`);
    await expectStatus(daemon, 404, 'DELETE', `/v1/snapshots/${second.id}`);
    assert.equal(await output(daemon, grandchild.id, 'python3 -c "print(sum(range(10)))"'), '45\n');
  });

  it('of a damaged snapshot are refused before anything starts', async () => {
    const vms = await expectStatus<WireVm[]>(daemon, 200, 'GET', '/v1/vms');
    const before = await traces(daemon.home);
    const [{ id } = { id: '' }] = await expectStatus<{ id: string }[]>(daemon, 200, 'GET', '/v1/snapshots');
    const [state, memory] = ['state', 'memory'].map((name) => join(daemon.home, 'snapshots', id, name)) as [
      string,
      string,
    ];
    const assertRefused = async () => {
      await expectStatus(daemon, 409, 'POST', '/v1/vms', { ...smallVm, snapshotId: id });
      assert.deepEqual(await traces(daemon.home), before);
    };
    await damage(state);
    await assertRefused();
    // Whole again, and damaged in the other file; what is in memory already is not read a second time.
    await damage(state);
    await damage(memory);
    await daemon.kill();
    daemon = await daemon.restart();
    await assertRefused();
    assert.equal((await expectStatus<WireVm[]>(daemon, 200, 'GET', '/v1/vms')).length, vms.length);
    await removeAll(daemon);
  });

  it('by fork have what the VM had at one instant: all of them or none', async () => {
    const { id } = await createVm(daemon);
    await output(daemon, id, 'echo forked > /dev/shm/mark');
    const copies = await expectStatus<WireVm[]>(daemon, 201, 'POST', `/v1/vms/${id}/fork`, { count: 2 });
    assert.equal(copies.length, 2);
    const asOperator = { BERTH_HOME: daemon.home, BERTH_API_KEY: daemon.apiKey };
    const { code, stdout, stderr } = await runBerth(['vm', 'fork', id, '--count', '1'], asOperator);
    assert.equal(code, 0, stderr);
    const ids = [...copies.map((copy) => copy.id), stdout.trim()];
    assert.equal(new Set(ids).size, 3);
    for (const copy of ids) assert.equal(await output(daemon, copy, 'cat /dev/shm/mark'), 'forked\n');
    assert.equal((await expectStatus<WireVm[]>(daemon, 200, 'GET', '/v1/vms')).length, 4);
    await expectStatus(daemon, 429, 'POST', `/v1/vms/${id}/fork`, { count: 64 });
    assert.equal((await expectStatus<WireVm[]>(daemon, 200, 'GET', '/v1/vms')).length, 4);
    assert.equal((await traces(daemon.home)).processes.length, 4);
    for (const count of [0, 65, 1.5, -1]) await expectStatus(daemon, 400, 'POST', `/v1/vms/${id}/fork`, { count });
    await removeAll(daemon);
  });

  it('of a template that is damaged boot instead, and it is made anew', async () => {
    const [template] = (await traces(daemon.home)).rows.filter((row) => row.includes('template'));
    assert.ok(template, 'there is no template');
    const [directory] = (await snapshotDirectories(daemon)).filter((path) =>
      template.includes(path.split('/').at(-1)!),
    );
    await damage(join(directory!, 'memory'));
    await daemon.kill();
    daemon = await daemon.restart();
    const vm: Renewed = await createVm(daemon);
    assert.equal(vm.renewal, undefined);
    await eventually('another template is built', async () =>
      (await traces(daemon.home)).rows.some((row) => row.includes('template') && row !== template),
    );
    await removeAll(daemon);
  });

  it('come before any boot where the operator asks for it', async () => {
    const memMb = 320;
    for (const _ of ['makes it', 'finds it']) {
      const args = ['image', 'warm', '--cpus', '1', '--memory', String(memMb)];
      const { code, stdout, stderr } = await runBerth(args, { BERTH_HOME: daemon.home, BERTH_API_KEY: daemon.apiKey });
      assert.equal(code, 0, stderr);
      assert.match(stdout, /VMs of sandbox with 1 cpu and 320 MiB are cloned/);
    }
    const vm: Renewed = await createVm(daemon, { memMb });
    assert.ok(vm.renewal);
    const [{ id: image }] = await expectStatus<[{ id: string }]>(daemon, 200, 'GET', '/v1/images');
    const warm = (status: number, id: string, body: object) =>
      expectStatus(daemon, status, 'POST', `/v1/images/${id}/warm`, body);
    await warm(204, image, { cpu: 1, memMb });
    for (const wrong of [{ cpu: 0, memMb }, { cpu: 1.5, memMb }, { cpu: 1, memMb: 1 }, { cpu: 1 }])
      await warm(400, image, wrong);
    await warm(404, 'img-none', { cpu: 1, memMb });
    const none = await runBerth(['image', 'warm', 'none', '--cpus', '1', '--memory', '320'], {
      BERTH_HOME: daemon.home,
      BERTH_API_KEY: daemon.apiKey,
    });
    assert.notEqual(none.code, 0);
    assert.match(none.stderr, /there is no image none/);
    await removeAll(daemon);
  });

  it('that were made beforehand are claimed, replaced, hidden, and gone with the daemon', async () => {
    await daemon.kill();
    daemon = await daemon.restart({ env: { ...env, BERTH_TEMPLATE_WAITING: '1', BERTH_TEMPLATE_READY: '1' } });
    const spares = async () => (await traces(daemon.home)).rows.filter((row) => row.startsWith('vm')).length;
    const one: Renewed = await createVm(daemon);
    await eventually('two spares stand by', async () => (await spares()) === 3);
    assert.equal((await expectStatus<WireVm[]>(daemon, 200, 'GET', '/v1/vms')).length, 1);
    const two: Renewed = await createVm(daemon, { diskSizeMb: 2000 });
    assert.ok(two.renewal);
    const machineId = (id: string) => output(daemon, id, 'cat /etc/machine-id');
    assert.notEqual(await machineId(one.id), await machineId(two.id));
    assert.ok(Number(await output(daemon, two.id, 'df --output=size -m / | tail -1')) > 1500);
    const [first, last] = await expectStatus<WireVm[]>(daemon, 200, 'GET', '/v1/vms');
    assert.deepEqual([first?.id, last?.id], [one.id, two.id]);
    await eventually('the spare is replaced', async () => (await spares()) === 4);
    await daemon.kill();
    daemon = await daemon.restart({ env: { ...env, BERTH_TEMPLATE_BUILD: 'false', BERTH_TEMPLATE_WAITING: '0' } });
    assert.equal((await traces(daemon.home)).processes.length, 2);
    assert.equal(await output(daemon, two.id, 'echo here'), 'here\n');
    await removeAll(daemon);
    const left = await traces(daemon.home);
    assert.deepEqual({ ...left, rows: [], directories: [] }, noTraces);
  });
});
