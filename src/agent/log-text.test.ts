import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { LogFrames } from './log-frames.ts';
import { type LogFormat, LogText } from './log-text.ts';

function frame(channel: number, content: string | Buffer): Buffer {
  const bytes = Buffer.from(content as string);
  const header = Buffer.alloc(8);
  header[0] = channel;
  header.writeUInt32BE(bytes.length, 4);
  return Buffer.concat([header, bytes]);
}

async function render(chunks: readonly Buffer[], format: Partial<LogFormat> = {}, tty = false): Promise<string> {
  const frames = new LogFrames(tty);
  const output = new LogText({ bare: false, text: true, ansi: false, ...format });
  const [result] = await Promise.all([text(output), pipeline(Readable.from(chunks), frames, output)]);
  return result;
}

describe('the log of a container', () => {
  const log = [frame(1, 'one\n'), frame(2, 'two\n'), frame(0, 'three\n')];

  test('is one JSON object a frame', async () => {
    assert.equal(
      await render(log),
      '{"channel":"stdout","message":"one\\n"}\n{"channel":"stderr","message":"two\\n"}\n{"channel":"stdin","message":"three\\n"}\n',
    );
  });

  test('has base64 in it unless text is asked for', async () => {
    assert.equal(await render(log.slice(0, 1), { text: false }), '{"channel":"stdout","message":"b25lCg=="}\n');
  });

  test('is the bare content', async () => {
    assert.equal(await render(log, { bare: true }), 'one\ntwo\nthree\n');
    assert.equal(await render(log.slice(0, 2), { bare: true, text: false }), 'b25lCg==dHdvCg==');
  });

  test('of one with a terminal is the console', async () => {
    assert.equal(await render([Buffer.from('$ ')], {}, true), '{"channel":"console","message":"$ "}\n');
  });

  test('loses control sequences, also those cut in two, unless they are wanted', async () => {
    const coloured = [frame(1, 'a\u001b[3'), frame(2, '\u001b[1mE'), frame(1, '1mred\u001b'), frame(1, '[0m b')];
    assert.equal(await render(coloured, { bare: true }), 'aEred b');
    assert.equal(await render(coloured, { bare: true, ansi: true }), 'a\u001b[3\u001b[1mE1mred\u001b[0m b');
  });

  test('loses titles, links and character sets of terminals, wherever they are cut', async () => {
    const log = Buffer.from(
      'a\u001b]0;title\u0007b\u001b]8;;http://x\u001b\\c\u001b]8;;\u001b\\d\u001b(Be\u001b=f\u001b[?25hg\u009b1mh',
    );
    for (let cut = 0; cut <= log.length; cut++) {
      const pieces = [frame(1, log.subarray(0, cut)), frame(1, log.subarray(cut))];
      assert.equal(await render(pieces, { bare: true }), 'abcdefgh', `cut at ${cut}`);
    }
  });

  test('loses what was made to look like the beginnings of many sequences', async () => {
    // A search that begins anew at each of them would go on for half an hour.
    for (const beginning of ['\u001b]', '\u001b]a', '\u001b[', '\u001b', '\u009b1'])
      assert.match(await render([Buffer.from(beginning.repeat(2 ** 19))], { bare: true }, true), /^a*$/);
  });

  test('keeps the text of a title that never ends', async () => {
    assert.equal(await render([frame(1, '\u001b]0;one\ntwo\n')], { bare: true }), '0;one\ntwo\n');
  });

  test('keeps characters that are cut in two, on each channel', async () => {
    const bytes = Buffer.from('ü€🦊');
    const cut = [...bytes].flatMap((byte) => [frame(1, Buffer.of(byte)), frame(2, 'x')]);
    const lines = (await render(cut))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { channel: string; message: string });
    const of = (channel: string) =>
      lines
        .filter((line) => line.channel === channel)
        .map((line) => line.message)
        .join('');
    assert.equal(of('stdout'), 'ü€🦊');
    assert.equal(of('stderr'), 'x'.repeat(bytes.length));
  });

  test('ends with what is left of a character or a sequence', async () => {
    assert.equal(await render([frame(1, Buffer.from('a€').subarray(0, 2))], { bare: true }), 'a\ufffd');
    assert.equal(await render([frame(1, 'a\u001b[3')], { bare: true }), 'a');
  });

  test('is the same however its bytes arrive', async () => {
    const whole = Buffer.concat(log);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(whole.length), { maxLength: 8 }), async (cuts) => {
        const ends = [...cuts.sort((a, b) => a - b), whole.length];
        const chunks = ends.map((end, index) => whole.subarray(ends[index - 1] ?? 0, end));
        assert.equal(await render(chunks, { bare: true }), 'one\ntwo\nthree\n');
      }),
    );
  });

  for (const [what, bytes] of [
    ['a channel that does not exist', Buffer.from('0300000000000001ff', 'hex')],
    ['a frame that is too large', Buffer.from('0100000000200000', 'hex')],
  ] as const)
    test(`breaks off at ${what}`, () => assert.rejects(render([bytes]), /a frame that cannot be/));
});
