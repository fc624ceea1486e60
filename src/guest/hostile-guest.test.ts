import assert from 'node:assert/strict';
import { type Duplex, duplexPair, Readable } from 'node:stream';
import { describe, it } from 'node:test';
import { BerthError } from '../common/errors.ts';
import { createGuestClient } from './client.ts';
import { echo, MAGIC } from './resync.ts';

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
