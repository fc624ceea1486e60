import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createConnection, type Server } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { measureBoot } from '../../attest/boot-measurements.ts';
import { sha384 } from '../../attest/hash.ts';
import { issueCollateral } from '../../attest/simulated/collateral.ts';
import { SimulatedPlatform } from '../../attest/simulated/platform.ts';
import { SimulatedTdxQuoter } from '../../attest/simulated/tdx-quoter.ts';
import { askLocalProvider, requestLocalSeed } from './client.ts';
import { bytesField, encodeFrame, readFrame } from './frames.ts';
import { createLocalProvider } from './provider.ts';
import { boxKeyPair, openBox, sealBox } from './sealed-box.ts';
import { localProviderEnclave } from './seed.ts';

const platform = SimulatedPlatform.create();
const trust = { root: platform.root, collateral: issueCollateral(platform, new Date(), 'sgx') };
const secret = Buffer.alloc(32, 3);

test("a box of libsodium's is opened", () => {
  const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), Buffer.alloc(32, 7)]);
  const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  const box = Buffer.from(
    '9dfa82ea317a91f86f87c5b32b8dc070fdafc1cea4f1c0ed02c72243b5a7927acb6076b173d414e0f3b78d23ba8b42454f' +
      'dfb79697bd556da73c1e40ad75fc70cae17a3ebba45e90bd819ad538aaf5cb42',
    'hex',
  );
  assert.equal(openBox(key, box).toString(), 'key of the sealed box, 32 bytes!!');
});

test('boxes are for one receiver, and not to be changed', () => {
  const [receiver, other] = [boxKeyPair(), boxKeyPair()];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(), (message, bit) => {
      const box = sealBox(receiver.publicKey, message);
      assert.deepEqual(openBox(receiver.privateKey, box), Buffer.from(message));
      assert.throws(() => openBox(other.privateKey, box));
      const at = bit % (box.length * 8);
      // The highest bit of an X25519 public key is not part of the key, but it is part of the nonce.
      box[at >> 3]! ^= 1 << (at & 7);
      assert.throws(() => openBox(receiver.privateKey, box));
    }),
    { numRuns: 50 },
  );
});

test('a VM gets the same key each time; another boot, app or machine gets another', async () => {
  await using provider = await start(secret);
  const seed = await provider.seedOf('kernel', 'app');
  assert.equal(seed.length, 32);
  assert.deepEqual(await provider.seedOf('kernel', 'app'), seed);
  assert.notDeepEqual(await provider.seedOf('other kernel', 'app'), seed);
  assert.notDeepEqual(await provider.seedOf('kernel', 'other app'), seed);
  await using other = await start(Buffer.alloc(32, 4));
  assert.notDeepEqual(await other.seedOf('kernel', 'app'), seed);
});

test('who is not attested gets no key; a provider that is not the pinned one is not believed', async () => {
  await using provider = await start(secret);
  const stranger = SimulatedPlatform.create();
  await assert.rejects(provider.seedOf('kernel', 'app', { on: stranger }));
  await assert.rejects(provider.seedOf('kernel', 'app', { pinned: '00'.repeat(32) }), /another one/);
  const collateral = issueCollateral(stranger, new Date(), 'sgx');
  await assert.rejects(provider.seedOf('kernel', 'app', { trust: { root: stranger.root, collateral } }));
  await provider.seedOf('kernel', 'app', { pinned: localProviderEnclave.mrEnclave.toString('hex') });
});

test('a host that changes what it passes on is found out', async () => {
  await using provider = await start(secret);
  for (const field of ['encryptedKey', 'providerQuote'] as const)
    await assert.rejects(
      provider.seedOf('kernel', 'app', {
        onReply: (reply) => {
          const changed = Buffer.from(reply[field]);
          changed[60]! ^= 1;
          return { ...reply, [field]: changed };
        },
      }),
      field,
    );
});

test('nonsense ends the connection and not the provider', async () => {
  await using provider = await start(secret);
  for (const bytes of [
    Buffer.from('ffffffff', 'hex'),
    Buffer.from('00000002', 'hex'),
    Buffer.from('000000027b7d', 'hex'),
    Buffer.from('0000000178', 'hex'),
    encodeFrame({ quote: Buffer.alloc(10) }),
  ]) {
    const socket = createConnection(provider.port, '127.0.0.1');
    socket.end(bytes);
    socket.resume();
    await once(socket, 'close');
  }
  await provider.seedOf('kernel', 'app');
});

test('a sender that drips is given up, and one that sends byte by byte in time is served', async () => {
  await using provider = await start(secret, 300);
  const slow = createConnection(provider.port, '127.0.0.1');
  slow.on('error', () => {}).resume();
  slow.write(Buffer.from('00010000', 'hex'));
  const dripping = setInterval(() => slow.write(' '), 20);
  await once(slow, 'close');
  clearInterval(dripping);

  await using patient = await start(secret);
  const quoter = new SimulatedTdxQuoter(platform, { mrtd: Buffer.alloc(48), bootEvents: [] });
  const quote = await quoter.quote(Buffer.concat([boxKeyPair().publicKey, Buffer.alloc(32)]));
  const socket = createConnection({ port: patient.port, host: '127.0.0.1', noDelay: true });
  for (const byte of encodeFrame({ quote })) socket.write(Buffer.of(byte));
  assert.equal(bytesField(await readFrame(socket), 'encrypted_key').length, 80);
  socket.destroy();
});

type Reply = Awaited<ReturnType<typeof askLocalProvider>>;

interface Provider {
  readonly port: number;
  seedOf(
    kernel: string,
    app: string,
    options?: {
      readonly on?: SimulatedPlatform;
      readonly pinned?: string;
      readonly trust?: typeof trust;
      readonly onReply?: (reply: Reply) => Reply;
    },
  ): Promise<Buffer>;
  [Symbol.asyncDispose](): Promise<void>;
}

async function start(providerSecret: Buffer, timeoutMs?: number): Promise<Provider> {
  const server: Server = createLocalProvider({
    secret: providerSecret,
    platform,
    trust: () => ({ root: platform.root, collateral: issueCollateral(platform) }),
    log: { info: () => {} },
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    seedOf: async (
      kernel,
      app,
      { on = platform, pinned = '', trust: believed = trust, onReply = (reply: Reply): Reply => reply } = {},
    ) => {
      const digest = sha384(kernel);
      const boot = measureBoot({
        firmware: digest,
        kernel: digest,
        initramfs: digest,
        commandLine: '',
        rootfs: digest,
        hardware: '',
      });
      const quoter = new SimulatedTdxQuoter(on, boot);
      await quoter.extend(sha384(app));
      const { seed } = await requestLocalSeed({
        quote: (reportData) => quoter.quote(reportData),
        ask: async (quote) => onReply(await askLocalProvider('127.0.0.1', port, quote)),
        pinned,
        trust: believed,
      });
      return seed;
    },
    [Symbol.asyncDispose]: async () => {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
