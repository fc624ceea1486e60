import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Snapshot, type Vm, vmStates } from '../../vm/model.ts';
import { sampleVm } from '../../vm/testing/sample-vm.ts';
import { Codec, encodeSnapshot, encodeVm, wireState } from './codec.ts';
import { snapshotBody, vmBody } from './schemas.ts';
import { FakeVms } from './testing/fake-vms.ts';

const time = fc.date({ noInvalidDate: true, min: new Date(0) }).map((date) => date.toISOString());
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });

const anyVm: fc.Arbitrary<Vm> = fc
  .record({
    id: fc.uuid({ version: 4 }),
    name: fc.string(),
    tenant: fc.string(),
    state: fc.constantFrom(...vmStates),
    engine: fc.constant('qemu'),
    cpus: fc.integer({ min: 1, max: 256 }),
    memoryMiB: fc.integer({ min: 1, max: 1e6 }),
    diskMiB: fc.integer({ min: 1, max: 1e6 }),
    imageId: maybe(fc.string()),
    snapshotId: maybe(fc.string()),
    uid: maybe(fc.nat()),
    addresses: fc.record({ ipv4: fc.ipV4(), ipv6: maybe(fc.ipV6()), mac: fc.string(), tap: fc.string() }),
    egress: fc.record({ outbound: fc.boolean(), allow: fc.array(fc.string()) }),
    startMode: maybe(fc.constantFrom('boot' as const, 'restore' as const)),
    createdAt: time,
    startedAt: maybe(time),
    stoppedAt: maybe(time),
    reason: maybe(fc.string()),
    labels: fc.dictionary(fc.string(), fc.string()),
  })
  .map((change) => sampleVm(1, change));

const anySnapshot: fc.Arbitrary<Snapshot> = fc.record({
  id: fc.uuid().map((id) => `snap-${id}`),
  kind: fc.constantFrom('disk' as const, 'memory' as const),
  createdAt: time,
  sourceVmId: fc.uuid(),
  tenant: fc.string(),
  imageId: maybe(fc.string()),
  cpus: fc.nat(),
  memoryMiB: fc.nat(),
  diskMiB: fc.nat(),
});

describe('encodeVm', () => {
  test('any record gives what is documented, and no more', () => {
    fc.assert(
      fc.property(anyVm, (vm) => {
        const body = encodeVm(vm);
        assert.deepEqual(vmBody.strict().parse(body), body);
        assert.equal('provisionMode' in body, vm.startMode !== null);
        assert.equal('imageId' in body, vm.imageId !== null);
        assert.equal('parked' in body, vm.parked);
      }),
    );
  });
});

describe('encodeSnapshot', () => {
  test('any record gives what is documented, and no more', () => {
    fc.assert(
      fc.property(anySnapshot, (snapshot) => {
        const body = encodeSnapshot(snapshot);
        assert.deepEqual(snapshotBody.strict().parse(body), body);
        assert.equal(body.vmId, body.sourceVmId);
        assert.notEqual(body.hasDisk, body.hasOverlay);
      }),
    );
  });
});

describe('wireState', () => {
  const rows = [
    ['created', 'CREATED'],
    ['starting', 'STARTING'],
    ['running', 'RUNNING'],
    ['paused', 'STOPPED'],
    ['stopping', 'STOPPING'],
    ['stopped', 'STOPPED'],
    ['failed', 'ERROR'],
    ['removing', 'STOPPING'],
    ['constructor', 'CONSTRUCTOR'],
  ] as const;
  for (const [state, name] of rows) test(state, () => assert.equal(wireState(state), name));
});

describe('Codec', () => {
  test('renders once per record, and the list once per revision', async () => {
    const vms = new FakeVms();
    const codec = new Codec(vms);
    const vm = await vms.create({ cpus: 1, memoryMiB: 256, egress: { outbound: false, allow: [] } });
    assert.equal(codec.vm(vm), codec.vm(vm));
    assert.equal(codec.vmList(), codec.vmList());
    assert.equal(codec.vmList().toString(), `[${codec.vm(vm)}]`);
    const stopped = vms.force(vm.id, { state: 'stopped' });
    assert.match(codec.vmList().toString(), /STOPPED/);
    assert.match(codec.vm(stopped).toString(), /STOPPED/);
  });
});
