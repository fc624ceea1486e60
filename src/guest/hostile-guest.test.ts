import assert from 'node:assert/strict';
import { type Duplex, duplexPair, Readable } from 'node:stream';
import { describe, it } from 'node:test';
import { BerthError } from '../common/errors.ts';
import { createGuestClient } from './client.ts';
import { echo, MAGIC } from './resync.ts';
import { LocalGuest } from './testing/local-guest.ts';

const nonceBytes = 32;

/** A guest that answers the marker of every session and then sends what it likes. */
function hostileGuest(after: (channel: Duplex) => void): () => Promise<Duplex> {
  return async () => {
    const [host, guest] = duplexPair();
    let seen = Buffer.alloc(0);
    guest.on('data', (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk]);
      const at = seen.indexOf(MAGIC);
      if (at < 0 || seen.length < at + MAGIC.length + 1 + nonceBytes) return;
      guest.removeAllListeners('data').resume();
      const nonce = seen.subarray(at + MAGIC.length + 1, at + MAGIC.length + 1 + nonceBytes);
      guest.write(echo(nonce));
      after(guest);
    });
    guest.on('error', () => {});
    return host;
  };
}

const request = { argv: ['/bin/true'], cwd: '/', env: {}, uid: 0, gid: 0, timeoutMs: 1000 } as const;

describe('a guest that misbehaves', () => {
  for (const [what, after] of [
    ['sends garbage right after the echo', (channel: Duplex) => channel.write(Buffer.alloc(1024 * 1024, 0xff))],
    ['ends the channel right after the echo', (channel: Duplex) => channel.end()],
    ['breaks the channel right after the echo', (channel: Duplex) => channel.destroy()],
  ] as const) {
    it(`and ${what} fails calls, not the daemon`, async () => {
      const client = createGuestClient(hostileGuest(after), { connectTimeoutMs: 500, operationTimeoutMs: 500 });
      for (let n = 0; n < 20; n++) {
        const exec = client.exec(request);
        exec.stdout.on('error', () => {}).resume();
        exec.stderr.on('error', () => {}).resume();
        exec.stdin.on('error', () => {});
        await assert.rejects(exec.exit, (error) => error instanceof BerthError && error.code.startsWith('guest_'));
      }
      client.close();
    });
  }

  for (const [what, type, flags, stream, content] of [
    ['resets streams', 3, 0, 1, Buffer.from([0, 0, 0, 8])],
    ['opens windows', 8, 0, 0, Buffer.from([0, 0, 0, 1])],
    ['sends settings', 4, 0, 0, Buffer.from([0, 3, 0, 0, 0, 100])],
    ['acknowledges settings', 4, 1, 0, Buffer.alloc(0)],
    ['sends pings', 6, 0, 0, Buffer.alloc(8)],
    ['sends interim headers', 1, 4, 1, Buffer.from([0x08, 3, 0x31, 0x30, 0x33])],
    ['sends empty data', 0, 0, 1, Buffer.alloc(0)],
    ['sends frames of types nobody knows', 0x7f, 0, 0, Buffer.alloc(1)],
  ] as const) {
    it(`and ${what} without end is cut off`, async () => {
      const header = Buffer.from([0, 0, content.length, type, flags, 0, 0, 0, stream]);
      const piece = Buffer.concat(Array.from({ length: 100 }, () => Buffer.concat([header, content])));
      let frames = 0;
      const open = hostileGuest((channel) => {
        channel.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
        const flood = () => {
          while (!channel.destroyed && channel.writable) {
            frames += 100;
            if (!channel.write(piece)) {
              channel.once('drain', flood);
              return;
            }
          }
        };
        setTimeout(flood, 20);
      });
      const client = createGuestClient(open, { connectTimeoutMs: 500, operationTimeoutMs: 60_000 });
      await assert.rejects(
        client.connect({ port: 1 }),
        (error) => error instanceof BerthError && error.code.startsWith('guest_'),
      );
      assert.ok(frames < 20_000, `${frames} frames were taken`);
      client.close();
    });
  }

  it('and floods again with every call does not keep a guest beside it from being served', async () => {
    const ping = Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0, ...Buffer.alloc(8)]);
    const piece = Buffer.concat(Array.from({ length: 1000 }, () => ping));
    const hostile = createGuestClient(
      hostileGuest((channel) => {
        let pieces = 0;
        // In turns, since it lives in the same process; no more than would drown whoever takes it all.
        const flood = setInterval(() => {
          if (channel.destroyed || ++pieces > 1000) clearInterval(flood);
          else channel.write(piece);
        });
        channel.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
        channel.on('close', () => clearInterval(flood));
      }),
      { connectTimeoutMs: 500, operationTimeoutMs: 60_000 },
    );
    const guest = await LocalGuest.start();
    const good = createGuestClient(guest.openChannel);
    let isServed = false;
    const floods = (async () => {
      while (!isServed) await assert.rejects(hostile.sync(), (error) => error instanceof BerthError);
    })();
    for (let n = 0; n < 50; n++) assert.equal((await good.ready(5000)).protocol, 1);
    isServed = true;
    await floods;
    hostile.close();
    good.close();
    await guest.destroy();
  });

  it('and takes nothing of an upload is given up on', async () => {
    const client = createGuestClient(
      hostileGuest(() => {}),
      { connectTimeoutMs: 500, operationTimeoutMs: 300 },
    );
    const endless = Readable.from(
      (function* () {
        for (;;) yield Buffer.alloc(64 * 1024);
      })(),
    );
    await assert.rejects(
      client.uploadTar('/x', endless, { uid: 0, gid: 0, root: '/' }),
      (error) => error instanceof BerthError && error.code === 'deadline_exceeded',
    );
    client.close();
  });
});
