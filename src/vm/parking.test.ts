import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as tick } from 'node:timers/promises';
import fc from 'fast-check';
import { ParkingLot } from './testing/parking-lot.ts';

const atOnce = async () => {};

describe('a parked VM', () => {
  it('stands still, is noted as parked, and is running to its users', async () => {
    const lot = new ParkingLot(atOnce);
    await lot.parking.park(lot.id);
    const { state, parked } = lot.records.get(lot.id);
    assert.deepEqual([lot.process, lot.noted, state, parked], ['paused', true, 'running', true]);
  });

  it('goes on for a request, which finds it knowing the time', async () => {
    const lot = new ParkingLot(atOnce);
    await lot.parking.park(lot.id);
    assert.equal(await lot.request(), true);
    assert.deepEqual([lot.process, lot.noted, lot.records.get(lot.id).parked], ['running', false, false]);
    assert.deepEqual(lot.violations, []);
  });

  it('goes on for a packet, once', async () => {
    const lot = new ParkingLot(atOnce);
    await lot.parking.park(lot.id);
    assert.equal(lot.packet(), true);
    await lot.parking.close();
    assert.equal(lot.process, 'running');
    await lot.parking.park(lot.id);
    assert.equal(lot.process, 'paused');
  });

  it('is parked once, however often it is asked for', async () => {
    const lot = new ParkingLot(atOnce);
    await Promise.all([lot.parking.park(lot.id), lot.parking.park(lot.id)]);
    assert.equal(lot.process, 'paused');
  });

  it('goes on when its guest cannot be told the time', async () => {
    const lot = new ParkingLot(atOnce);
    await lot.parking.park(lot.id);
    lot.failing.add('setClock');
    assert.equal(await lot.request(), true);
  });

  it('goes on when that cannot be written', async () => {
    const lot = new ParkingLot(atOnce);
    await lot.parking.park(lot.id);
    lot.failing.add('setParked');
    assert.equal(await lot.request(), true);
    assert.equal(lot.records.get(lot.id).parked, false);
  });

  it('stays one, and refuses requests, for as long as it cannot be woken', async () => {
    const lot = new ParkingLot(atOnce);
    await lot.parking.park(lot.id);
    lot.failing.add('resume');
    assert.equal(await lot.request(), false);
    assert.deepEqual([lot.noted, lot.records.get(lot.id).parked], [true, true]);
    lot.failing.clear();
    assert.equal(await lot.request(), true);
    assert.equal(lot.noted, false);
    // The requests that were refused are over.
    await lot.parking.park(lot.id);
    assert.equal(lot.process, 'paused');
  });

  it('is not watched any more once it goes on', async () => {
    const lot = new ParkingLot(atOnce);
    await lot.parking.park(lot.id);
    assert.equal(lot.isWatched, true);
    await lot.request();
    assert.equal(lot.isWatched, false);
  });

  it('is not watched any more once its process ends', async () => {
    const lot = new ParkingLot(atOnce);
    await lot.parking.park(lot.id);
    await lot.restart();
    assert.equal(lot.isWatched, false);
  });
});

describe('a VM is not parked', () => {
  it('while a request is open', async () => {
    const gate = Promise.withResolvers<void>();
    const lot = new ParkingLot((what) => (what === 'request' ? gate.promise : Promise.resolve()));
    const request = lot.request();
    await assert.rejects(lot.parking.park(lot.id), { code: 'conflict' });
    gate.resolve();
    await request;
    await lot.parking.park(lot.id);
    assert.equal(lot.process, 'paused');
  });

  it('unless it runs', async () => {
    const lot = new ParkingLot(atOnce);
    lot.records.put({ ...lot.records.get(lot.id), state: 'paused' });
    await assert.rejects(lot.parking.park(lot.id), { code: 'wrong_state' });
  });

  it('when its guest is not spoken with', async () => {
    const lot = new ParkingLot(atOnce);
    lot.records.put({ ...lot.records.get(lot.id), guestChannel: 'optional' });
    await assert.rejects(lot.parking.park(lot.id), { code: 'unsupported' });
  });

  for (const call of ['onNextPacket', 'setParked', 'pause'] as const) {
    it(`when ${call} fails, and serves on`, async () => {
      const lot = new ParkingLot(atOnce);
      lot.failing.add(call);
      await assert.rejects(lot.parking.park(lot.id));
      lot.failing.clear();
      assert.deepEqual([lot.process, lot.noted, lot.records.get(lot.id).parked], ['running', false, false]);
      assert.equal(await lot.request(), true);
      assert.deepEqual(lot.violations, []);
    });
  }
});

describe('after a restart of the daemon', () => {
  it('a parked VM is one, and wakes for requests and packets', async () => {
    for (const use of ['request', 'packet'] as const) {
      const before = new ParkingLot(atOnce);
      await before.parking.park(before.id);
      const lot = await ParkingLot.after(before);
      assert.deepEqual([lot.process, lot.records.get(lot.id).parked], ['paused', true]);
      assert.equal(await lot[use](), true);
      await lot.parking.close();
      assert.deepEqual([lot.process, lot.noted, lot.knowsTime], ['running', false, true]);
    }
  });

  it('one that is held for lack of disk space is left alone', async () => {
    const before = new ParkingLot(atOnce);
    await before.parking.park(before.id);
    before.process = 'stalled';
    const lot = await ParkingLot.after(before);
    assert.deepEqual([lot.process, lot.isWatched], ['stalled', false]);
  });

  it('one that was being parked, or woken, runs and knows the time', async () => {
    const before = new ParkingLot(atOnce);
    await before.parking.park(before.id);
    before.process = 'running';
    const lot = await ParkingLot.after(before);
    assert.deepEqual([lot.noted, lot.records.get(lot.id).parked, lot.knowsTime], [false, false, true]);
  });
});

describe('whatever comes between', () => {
  const action = fc.constantFrom('park', 'request', 'packet', 'wake', 'restart');
  const failures = fc.uniqueArray(fc.constantFrom('pause', 'resume', 'setClock', 'setParked', 'onNextPacket'), {
    maxLength: 2,
  });

  it('no request meets a guest that stands still, and no VM is left standing still that nobody would wake', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.array(action, { maxLength: 12 }), async (scheduler, actions) => {
        const lot = new ParkingLot((what) => scheduler.schedule(Promise.resolve(), what));
        const running = start(lot, actions);
        await scheduler.waitIdle();
        await Promise.all(running);
        assert.deepEqual(lot.violations, []);
        assert.equal(lot.noted, lot.process === 'paused');
        assert.equal(lot.records.get(lot.id).parked, lot.noted);
        const last = Promise.all([lot.packet(), lot.request()]);
        await scheduler.waitIdle();
        assert.deepEqual(await last, [true, true]);
        assert.equal(lot.process, 'running');
      }),
      { numRuns: 200 },
    );
  });

  it('failures of the host are got over once it is well again', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        failures,
        fc.array(action, { maxLength: 12 }),
        async (scheduler, failing, actions) => {
          const lot = new ParkingLot((what) => scheduler.schedule(Promise.resolve(), what));
          for (const call of failing) lot.failing.add(call);
          const running = start(lot, actions);
          await scheduler.waitIdle();
          await Promise.all(running);
          const known = lot.violations.filter((violation) => !violation.endsWith('know the time'));
          assert.deepEqual(known, []);
          assert.ok(lot.noted || lot.process !== 'paused');
          lot.failing.clear();
          const last = lot.request();
          await scheduler.waitIdle();
          assert.equal(await last, true);
          assert.deepEqual([lot.process, lot.records.get(lot.id).parked], ['running', false]);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('a daemon that is killed at any moment leaves what the next one can go on with', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(action, { minLength: 1, maxLength: 6 }),
        fc.nat({ max: 30 }),
        async (scheduler, actions, steps) => {
          let isKilled = false;
          const never = new Promise<void>(() => {});
          const lot = new ParkingLot(async (what) => {
            await scheduler.schedule(Promise.resolve(), what);
            if (isKilled) await never;
          });
          start(lot, actions);
          for (let step = 0; step < steps; step++) {
            await tick();
            if (scheduler.count() > 0) await scheduler.waitOne();
          }
          isKilled = true;
          await scheduler.waitIdle();
          fc.pre(lot.process !== 'absent');
          isKilled = false;
          const settling = ParkingLot.after(lot);
          await scheduler.waitIdle();
          const next = await settling;
          assert.equal(next.noted, next.process === 'paused');
          const last = Promise.all([next.packet(), next.request()]);
          await scheduler.waitIdle();
          assert.deepEqual(await last, [true, true]);
          assert.deepEqual(next.violations, []);
        },
      ),
      { numRuns: 200 },
    );
  });

  /** Begins everything at once; failures are for the caller of each, of whom there is none. */
  function start(lot: ParkingLot, actions: readonly string[]): Promise<unknown>[] {
    return actions.map(async (name) => {
      if (name === 'park') await lot.parking.park(lot.id).catch(() => {});
      else if (name === 'request') await lot.request();
      else if (name === 'packet') assert.equal(lot.packet(), true, 'a packet was seen by nobody');
      else if (name === 'wake') await lot.parking.wake(lot.id).catch(() => {});
      else await lot.restart();
    });
  }
});
