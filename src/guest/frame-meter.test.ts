import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FrameMeter } from './frame-meter.ts';

function frame(type: number, length: number): Buffer {
  const bytes = Buffer.alloc(9 + length);
  bytes.writeUIntBE(length, 0, 3);
  bytes[3] = type;
  return bytes;
}

const [data, ping] = [0, 6];

/** How many of the frames are let through before the guest counts as flooding. */
function countUntilFlood(meter: FrameMeter, bytes: Buffer, most = 100_000): number {
  for (let count = 0; count < most; count++) if (meter.push(bytes) === null) return count;
  return most;
}

describe('the meter of a guest’s frames', () => {
  it('lets through a burst without content and no more', () => {
    const meter = new FrameMeter(() => 0);
    assert.equal(countUntilFlood(meter, frame(ping, 8)), 2000);
  });

  it('counts empty data as nothing', () => {
    assert.equal(countUntilFlood(new FrameMeter(() => 0), frame(data, 0)), 2000);
  });

  it('never takes frames with content for a flood, and holds up none that are large', () => {
    const meter = new FrameMeter(() => 0);
    assert.equal(countUntilFlood(meter, frame(data, 1)), 100_000);
    const large = new FrameMeter(() => 0);
    for (let n = 0; n < 100_000; n++) assert.equal(large.push(frame(data, 16_384)), 0);
  });

  it('holds up a guest that sends little data in many frames', () => {
    let now = 0;
    const meter = new FrameMeter(() => now);
    const little = Buffer.concat(Array.from({ length: 1000 }, () => frame(data, 1)));
    for (let n = 0; n < 10; n++) assert.equal(meter.push(little), 0);
    assert.equal(meter.push(little), 100);
    now += 100;
    assert.equal(meter.push(Buffer.alloc(0)), 0);
  });

  it('finds frames wherever they are split', () => {
    const bytes = Buffer.concat([frame(data, 100), frame(ping, 8), frame(data, 5000), frame(ping, 8)]);
    for (const size of [1, 2, 3, 5, 8, 9, 10, 17, 109, 118, 4000]) {
      const meter = new FrameMeter(() => 0);
      for (let round = 0; round < 99; round++)
        for (let at = 0; at < bytes.length; at += size)
          assert.notEqual(meter.push(bytes.subarray(at, at + size)), null, `pieces of ${size}, round ${round}`);
      assert.equal(countUntilFlood(meter, frame(ping, 8)), 2000 - 2 * 99);
    }
  });

  it('allows what requests and what was sent explain', () => {
    const meter = new FrameMeter(() => 0);
    for (let n = 0; n < 100; n++) meter.expectAnswer();
    meter.sent(160 * 1024 * 1024);
    assert.equal(countUntilFlood(meter, frame(ping, 8)), 2000 + 800 + 10_240);
  });

  it('forgives in time, up to a burst', () => {
    let now = 0;
    const meter = new FrameMeter(() => now);
    assert.equal(countUntilFlood(meter, frame(ping, 8)), 2000);
    now += 1000;
    assert.equal(countUntilFlood(meter, frame(ping, 8)), 199);
    now += 3_600_000;
    assert.equal(countUntilFlood(meter, frame(ping, 8)), 2000);
  });
});
