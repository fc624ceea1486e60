import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ConnectionOptions, connect, createServer, type TLSSocket, type TlsOptions } from 'node:tls';
import { DstackClient } from '@phala/dstack-sdk';
import { verifyPeer } from '../attest/tls/peer.ts';
import { runCommand } from '../common/command.ts';
import { startTestAgent, type TestDevAgent } from './testing/dev-agent.ts';
import { parseTrust } from './trust-file.ts';

/** Two apps with keys of different authorities, whose quotes end at one root. */
describe('RA-TLS between two agents', () => {
  let tee: string;
  let alice: TestDevAgent;
  let bob: TestDevAgent;
  before(async () => {
    tee = await mkdtemp(join(tmpdir(), 'berth-tee-'));
    alice = await startTestAgent({ teeDirectory: tee, compose: { name: 'alice' } });
    bob = await startTestAgent({ teeDirectory: tee, compose: { name: 'bob' } });
  });
  after(async () => {
    await alice[Symbol.asyncDispose]();
    await bob[Symbol.asyncDispose]();
    await rm(tee, { recursive: true, force: true });
  });

  async function credentials({ dstackSocket, directory }: TestDevAgent) {
    const tls = await new DstackClient(dstackSocket).getTlsKey({
      subject: 'localhost',
      altNames: ['localhost'],
      usageRaTls: true,
      usageServerAuth: true,
      usageClientAuth: true,
    });
    return {
      key: tls.key,
      cert: tls.certificate_chain.join('\n'),
      ca: await readFile(join(directory, 'ca.pem'), 'utf8'),
    };
  }

  /** A mutual TLS connection; what each side saw of the other. */
  async function handshake(
    server: TlsOptions,
    client: ConnectionOptions,
  ): Promise<[seenByServer: Buffer, seenByClient: Buffer]> {
    const listener = createServer({ ...server, requestCert: true, rejectUnauthorized: true });
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    try {
      const { port } = listener.address() as AddressInfo;
      const accepted = once(listener, 'secureConnection') as Promise<[TLSSocket]>;
      const socket = connect({ ...client, port, host: '127.0.0.1', servername: 'localhost' });
      await once(socket, 'secureConnect');
      const [peer] = await accepted;
      const seen: [Buffer, Buffer] = [peer.getPeerX509Certificate()!.raw, socket.getPeerX509Certificate()!.raw];
      socket.destroy();
      peer.destroy();
      return seen;
    } finally {
      listener.close();
    }
  }

  test("each side checks the other's quote", async () => {
    const [a, b] = await Promise.all([credentials(alice), credentials(bob)]);
    const [client, server] = await handshake({ ...a, ca: b.ca }, { ...b, ca: a.ca });
    const trust = parseTrust(await readFile(bob.trustFile, 'utf8'));
    const [seenByAlice, seenByBob] = [
      await verifyPeer(client, trust, { appId: bob.appId }),
      await verifyPeer(server, trust, { appId: alice.appId }),
    ];
    assert.equal(seenByAlice.valid, true, JSON.stringify(seenByAlice.checks));
    assert.equal(seenByBob.valid, true, JSON.stringify(seenByBob.checks));
    const wrong = await verifyPeer(client, trust, { appId: alice.appId });
    assert.deepEqual(
      wrong.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['app-id'],
    );
  });

  test('an authority that is not trusted is refused by the TLS stack', async () => {
    const [a, b] = await Promise.all([credentials(alice), credentials(bob)]);
    await assert.rejects(handshake({ ...a, ca: b.ca }, { ...b, ca: b.ca }), { code: /CERT|ISSUER/ });
  });

  test("OpenSSL's own client and verifier take it", async () => {
    const scratch = await mkdtemp(join(tmpdir(), 'berth-openssl-'));
    try {
      const { key, cert, ca } = await credentials(alice);
      const [leaf, ...rest] = cert.split(/(?=-----BEGIN)/);
      const files = { 'key.pem': key, 'leaf.pem': leaf!, 'chain.pem': rest.join(''), 'ca.pem': ca };
      for (const [name, content] of Object.entries(files)) await writeFile(join(scratch, name), content);
      const options = { cwd: scratch };
      const verify = ['verify', '-x509_strict', '-purpose', 'sslserver', '-verify_hostname', 'localhost'];
      const { stdout } = await runCommand(
        'openssl',
        [...verify, '-CAfile', 'ca.pem', '-untrusted', 'chain.pem', 'leaf.pem'],
        options,
      );
      assert.match(stdout, /leaf\.pem: OK/);
      const server = createServer({ key, cert }, (socket) => socket.end('hello'));
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const connection = ['s_client', '-connect', `127.0.0.1:${port}`, '-CAfile', 'ca.pem', '-verify_return_error'];
      const { stdout: session } = await runCommand(
        'openssl',
        [...connection, '-verify_hostname', 'localhost'],
        options,
      );
      server.close();
      assert.match(session, /Verify return code: 0 \(ok\)/);
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  });
});
