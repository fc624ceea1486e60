import assert from 'node:assert/strict';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { serializeRoot } from './root.ts';
import { RootStore } from './root-store.ts';
import { type PassphraseSealing, type Sealing, seal, sealingOf, unseal } from './sealed.ts';

const none: Sealing = { kind: 'none' };
const passphrase = (text: string): PassphraseSealing => ({ kind: 'passphrase', passphrase: text, logCost: 10 });

async function withDirectory(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-kms-'));
  try {
    await run(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

test('a root is made once, and read again', () =>
  withDirectory(async (directory) => {
    const store = new RootStore(join(directory, 'kms'));
    assert.equal(await store.exists(), false);
    const root = await store.loadOrCreate(none);
    assert.deepEqual(serializeRoot(await store.loadOrCreate(none)), serializeRoot(root));
    await assert.rejects(store.create(none), /already/);
    const { mode } = await stat(join(directory, 'kms', 'kms-root.json'));
    assert.equal(mode & 0o777, 0o600);
    assert.deepEqual(await readdir(join(directory, 'kms')), ['kms-root.json']);
  }));

test('a passphrase protects the root, and can be changed', () =>
  withDirectory(async (directory) => {
    const store = new RootStore(directory);
    const root = await store.create(passphrase('first'));
    const text = await readFile(join(directory, 'kms-root.json'), 'utf8');
    assert.equal(sealingOf(text), 'passphrase');
    assert.ok(!text.includes(root.k256Key.toString('hex')) && !text.includes(root.k256Key.toString('base64')));
    await assert.rejects(store.load(passphrase('wrong')), /passphrase is wrong/);
    await assert.rejects(store.load(none), /passphrase is needed/);
    await store.reseal(passphrase('first'), passphrase('second'));
    await assert.rejects(store.load(passphrase('first')), /wrong/);
    assert.deepEqual(serializeRoot(await store.load(passphrase('second'))), serializeRoot(root));
  }));

test('a backup restores the same root elsewhere, and replaces none', () =>
  withDirectory(async (directory) => {
    const store = new RootStore(join(directory, 'a'));
    const root = await store.create(none);
    const backup = await store.backup(none, passphrase('kept elsewhere'));
    await assert.rejects(store.restore(backup, 'kept elsewhere', none), /already/);
    const other = new RootStore(join(directory, 'b'));
    await assert.rejects(other.restore(backup, 'guess', none), /wrong/);
    assert.equal(await other.exists(), false);
    await other.restore(backup, 'kept elsewhere', none);
    assert.deepEqual(serializeRoot(await other.load(none)), serializeRoot(root));
  }));

test('what is not sealed is refused where a seal is asked for', () =>
  withDirectory(async (directory) => {
    const store = new RootStore(join(directory, 'a'));
    await store.create(none);
    await assert.rejects(store.load(passphrase('x')), /not sealed/);
    const forged = await readFile(join(directory, 'a', 'kms-root.json'), 'utf8');
    const other = new RootStore(join(directory, 'b'));
    await assert.rejects(other.restore(forged, 'kept elsewhere', none), /not sealed/);
    assert.equal(await other.exists(), false);
  }));

test('guesses are made expensive unless told otherwise', async () => {
  const sealed = JSON.parse(await seal(Buffer.alloc(1), { kind: 'passphrase', passphrase: 'x' })) as {
    scrypt: { N: number; r: number };
  };
  assert.deepEqual([sealed.scrypt.N, sealed.scrypt.r], [131072, 8]);
});

test('a changed file is refused', async () => {
  const text = await seal(Buffer.from('content'), passphrase('x'));
  const sealed = JSON.parse(text) as Record<string, string>;
  for (const field of ['nonce', 'ciphertext', 'tag']) {
    const bytes = Buffer.from(sealed[field]!, 'base64');
    bytes[0]! ^= 1;
    const changed = JSON.stringify({ ...sealed, [field]: bytes.toString('base64') });
    await assert.rejects(unseal(changed, passphrase('x')), /changed/, field);
  }
  await assert.rejects(unseal(JSON.stringify({ ...sealed, tag: 'AAAA' }), passphrase('x')), /changed/);
  await assert.rejects(unseal(JSON.stringify({ ...sealed, sealing: 'none' }), none), /not a sealed file/);
  await assert.rejects(unseal(JSON.stringify({ ...sealed, format: 2 }), none), /not a sealed file/);
});

test('what is no sealed file is refused without a word of it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.json(), fc.string()), async (text) => {
      await assert.rejects(unseal(text, none), (error: Error) => error.message.length < 100);
    }),
    { numRuns: 100 },
  );
  await withDirectory(async (directory) => {
    const store = new RootStore(directory);
    await writeFile(join(directory, 'kms-root.json'), await seal(Buffer.from('{"k256_key":"secret"}'), none));
    await chmod(join(directory, 'kms-root.json'), 0o600);
    await assert.rejects(store.load(none), (error: Error) => !error.message.includes('secret'));
  });
});
