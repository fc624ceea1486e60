import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { setImmediate as tick } from 'node:timers/promises';
import { ParkingLot } from './testing/parking-lot.ts';

/** Idle seconds of the VMs here. They are looked at four times as often, and the first look is what later ones compare with. */
const idleSeconds = 8;
const period = idleSeconds / 4;

describe('an idle VM', () => {
  let now: number;

  beforeEach(() => {
    now = 0;
    mock.timers.enable({ apis: ['setTimeout'] });
    mock.method(performance, 'now', () => now);
  });
  afterEach(() => {
    mock.timers.reset();
    mock.restoreAll();
  });

  /** Lets time pass, with `meanwhile` before each look. */
  async function pass(seconds: number, meanwhile: () => void = () => {}): Promise<void> {
    for (let passed = 0; passed < seconds; passed += period) {
      meanwhile();
      now += period * 1000;
      mock.timers.tick(period * 1000);
      // What the look does is not up to timers.
      for (let turn = 0; turn < 10; turn++) await tick();
    }
  }

  function parkingLot(times: { vm: number | null; host: number } = { vm: idleSeconds, host: 0 }): ParkingLot {
    return new ParkingLot(async () => {}, times);
  }

  it('is parked after its time, not before', async () => {
    const lot = parkingLot();
    await pass(period + idleSeconds - period);
    assert.equal(lot.process, 'running');
    await pass(period);
    assert.equal(lot.process, 'paused');
  });

  it('is parked again after it was woken and was idle again', async () => {
    const lot = parkingLot();
    await pass(period + idleSeconds);
    await lot.request();
    await pass(idleSeconds);
    assert.equal(lot.process, 'running');
    await pass(period);
    assert.equal(lot.process, 'paused');
  });

  for (const [what, vm, host, isParked] of [
    ['after the time of the host, when it has none of its own', null, idleSeconds, true],
    ['after its own time, when the host parks none', idleSeconds, 0, true],
    ['never, when that is its time', 0, idleSeconds, false],
    ['never, unless somebody said when', null, 0, false],
  ] as const) {
    it(`is parked ${what}`, async () => {
      const lot = parkingLot({ vm, host });
      await pass(3 * idleSeconds);
      assert.equal(lot.process, isParked ? 'paused' : 'running');
    });
  }

  for (const [what, meanwhile] of [
    ['computes', (lot: ParkingLot) => (lot.cpuMicros += 0.05 * period * 1e6)],
    ['receives or sends packets', (lot: ParkingLot) => lot.packets++],
    ['is asked for something', (lot: ParkingLot) => void lot.request()],
    ['was paused by its user', (lot: ParkingLot) => lot.records.put({ ...lot.records.get(lot.id), state: 'paused' })],
  ] as const) {
    it(`is none while it ${what}`, async () => {
      const lot = parkingLot();
      await pass(3 * idleSeconds, () => meanwhile(lot));
      assert.equal(lot.process, 'running');
    });
  }

  it('may use what a guest uses that has nothing to do', async () => {
    const lot = parkingLot();
    await pass(period + idleSeconds, () => (lot.cpuMicros += 0.02 * period * 1e6));
    assert.equal(lot.process, 'paused');
  });

  it('is none while a request is under way, however long', async () => {
    const gate = Promise.withResolvers<void>();
    const lot = new ParkingLot((what) => (what === 'request' ? gate.promise : Promise.resolve()), {
      vm: idleSeconds,
      host: 0,
    });
    const request = lot.request();
    await pass(3 * idleSeconds);
    assert.equal(lot.process, 'running');
    gate.resolve();
    await request;
    await pass(idleSeconds);
    assert.equal(lot.process, 'paused');
  });

  it('was not idle while its user had it paused', async () => {
    const lot = parkingLot();
    await pass(idleSeconds, () => lot.records.put({ ...lot.records.get(lot.id), state: 'paused' }));
    lot.records.put({ ...lot.records.get(lot.id), state: 'running' });
    await pass(idleSeconds);
    assert.equal(lot.process, 'running');
    await pass(period);
    assert.equal(lot.process, 'paused');
  });

  it('is left alone until an operation on it is over, and is looked at again then', async () => {
    const lot = parkingLot();
    const gate = Promise.withResolvers<void>();
    const operation = lot.exclusive(() => gate.promise);
    await pass(2 * idleSeconds);
    assert.equal(lot.process, 'running');
    const request = lot.request();
    gate.resolve();
    await Promise.all([operation, request]);
    await pass(period);
    assert.equal(lot.process, 'running');
  });

  it('is looked for by nobody after the end', async () => {
    const lot = parkingLot();
    await lot.parking.close();
    await pass(3 * idleSeconds);
    assert.equal(lot.process, 'running');
  });
});
