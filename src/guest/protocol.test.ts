import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';

import { FrameReader } from './frames.ts';
import { decodeParameterList, frame, frameHeader, Parameters, PROTOCOL_VERSION, tag } from './protocol.ts';
import { guestText } from './session.ts';

const sources = join(import.meta.dirname, '../../guest-init/src');

test('parameters are read as they were written', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 255 }), fc.uint8Array({ maxLength: 300 })), {
        selector: ([key]) => key,
      }),
      (list) => {
        const parameters = new Parameters();
        for (const [key, value] of list) parameters.add(key, value);
        const encoded = parameters.encode();
        assert.equal(encoded.readUInt32BE(0), encoded.length - 4);
        const decoded = decodeParameterList(encoded.subarray(4));
        assert.deepEqual(
          [...decoded].map(([key, value]) => [key, [...value]]),
          list.map(([key, value]) => [key, [...value]]),
        );
      },
    ),
  );
});

test('damaged parameters are refused, never read past their end', () => {
  const encoded = new Parameters().add(tag.cwd, '/tmp').encode().subarray(4);
  for (let length = 1; length < encoded.length; length++)
    assert.throws(() => decodeParameterList(encoded.subarray(0, length)), RangeError);
});

test('numbers are 64 bits, big-endian', () => {
  assert.equal(new Parameters().add(tag.uid, 1000).encode().toString('hex'), '0000000d040000000800000000000003e8');
});

test('frames are the same wherever they are cut', () => {
  const part = fc.tuple(fc.constantFrom(frame.stdout, frame.stderr), fc.uint8Array({ maxLength: 50 }));
  fc.assert(
    fc.property(fc.array(part, { maxLength: 10 }), fc.integer({ min: 1, max: 30 }), (parts, step) => {
      const stream = Buffer.concat(parts.flatMap(([type, payload]) => [frameHeader(type, payload.length), payload]));
      const end = Buffer.concat([frameHeader(frame.exit, 3), Buffer.from('end')]);
      const whole = Buffer.concat([stream, end]);
      const seen = new Map<number, Buffer>();
      const reader = new FrameReader((type, payload) =>
        seen.set(type, Buffer.concat([seen.get(type) ?? Buffer.alloc(0), payload])),
      );
      for (let at = 0; at < whole.length; at += step) reader.push(whole.subarray(at, at + step));
      const expected = (wanted: number): Buffer =>
        Buffer.concat(parts.filter(([type]) => type === wanted).map(([, payload]) => payload));
      assert.ok((seen.get(frame.stdout) ?? Buffer.alloc(0)).equals(expected(frame.stdout)));
      assert.ok((seen.get(frame.stderr) ?? Buffer.alloc(0)).equals(expected(frame.stderr)));
      assert.equal(seen.get(frame.exit)?.toString(), 'end');
    }),
  );
});

test('a control frame longer than any is refused', () => {
  assert.throws(() => new FrameReader(() => {}).push(frameHeader(frame.exit, 1_000_000)), RangeError);
});

test('both sides agree on the numbers', async () => {
  const params = await readFile(join(sources, 'params.h'), 'utf8');
  const frames = await readFile(join(sources, 'frames.h'), 'utf8');
  const hello = await readFile(join(sources, 'hello.h'), 'utf8');
  const constants = (text: string, prefix: string): Record<string, number> =>
    Object.fromEntries(
      Array.from(text.matchAll(new RegExp(`\\b${prefix}_([A-Z0-9_]+) = (\\d+)`, 'g')), ([, name = '', value]) => [
        name.toLowerCase().replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
        Number(value),
      ]),
    );
  assert.deepEqual(constants(params, 'PARAM'), tag);
  assert.deepEqual(constants(frames, 'FRAME'), frame);
  assert.match(hello, new RegExp(`PROTOCOL_VERSION ${PROTOCOL_VERSION}\\b`));
});

test('text from a guest is bounded and cannot steer a terminal', () => {
  assert.equal(guestText('no \u001b[31msuch\u202e file\n'), 'no ?[31msuch? file?');
  assert.equal(guestText('x'.repeat(10_000)).length, 512);
  assert.equal(guestText('keine Datei „ä“'), 'keine Datei „ä“');
});
