import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { QuoteVerifier } from '@phala/dcap-qvl';
import fc from 'fast-check';
import { readEnclave } from '../sgx-quote.ts';
import { parseQuote, SIGNED_BYTES } from '../tdx-quote.ts';
import { issueCollateral } from './collateral.ts';
import { simulatedEnclave } from './pki.ts';
import { SimulatedPlatform } from './platform.ts';
import { SimulatedTdxQuoter } from './tdx-quoter.ts';

const platform = SimulatedPlatform.create();
const quoter = new SimulatedTdxQuoter(platform, { mrtd: Buffer.alloc(48, 3), bootEvents: [] });
const now = (): number => Math.floor(Date.now() / 1000);

test('the published verifier accepts a quote with the root and its collateral', async () => {
  const quote = await quoter.quote(Buffer.alloc(64, 7));
  const verified = QuoteVerifier.newWithRootCa(platform.root).verify(quote, issueCollateral(platform), now());
  assert.equal(verified.status, 'UpToDate');
  assert.deepEqual(verified.report.asTd10()?.reportData, new Uint8Array(Buffer.alloc(64, 7)));
  assert.deepEqual(verified.report.asTd10()?.mrTd, new Uint8Array(Buffer.alloc(48, 3)));
});

test('the published verifier accepts a quote of an enclave, with the collateral of enclaves', () => {
  const enclave = simulatedEnclave('test', 9);
  const quote = platform.enclaveQuote(enclave, Buffer.alloc(64, 7));
  const verifier = QuoteVerifier.newWithRootCa(platform.root);
  const verified = verifier.verify(quote, issueCollateral(platform, new Date(), 'sgx'), now());
  assert.equal(verified.status, 'UpToDate');
  assert.deepEqual(verified.report.asSgx()?.mrEnclave, new Uint8Array(enclave.mrEnclave));
  assert.deepEqual(readEnclave(quote), { mrEnclave: enclave.mrEnclave, reportData: Buffer.alloc(64, 7) });
  assert.throws(() => verifier.verify(quote, issueCollateral(platform), now()));
});

test('the published verifier trusts neither with the root of the other', async () => {
  const quote = await quoter.quote(Buffer.alloc(64));
  const other = SimulatedPlatform.create();
  assert.throws(() => QuoteVerifier.newProd().verify(quote, issueCollateral(platform), now()));
  assert.throws(() => QuoteVerifier.newWithRootCa(other.root).verify(quote, issueCollateral(platform), now()));
  assert.throws(() => QuoteVerifier.newWithRootCa(other.root).verify(quote, issueCollateral(other), now()));
});

test('a quote with any one bit changed is refused', async () => {
  const quote = await quoter.quote(Buffer.alloc(64, 7));
  const verifier = QuoteVerifier.newWithRootCa(platform.root);
  const collateral = issueCollateral(platform);
  const accepted = (changed: Buffer): boolean => {
    try {
      parseQuote(changed);
      verifier.verify(changed, collateral, now());
      return true;
    } catch {
      return false;
    }
  };
  assert.ok(accepted(quote));
  const flipped = (bit: number): Buffer => {
    const changed = Buffer.from(quote);
    changed[bit >> 3] = changed[bit >> 3]! ^ (1 << (bit & 7));
    return changed;
  };
  // Where fields begin and end, every bit: lengths, types and the edges of what is signed.
  const edges = [
    0,
    8,
    SIGNED_BYTES - 1,
    SIGNED_BYTES,
    SIGNED_BYTES + 4,
    764,
    765,
    766,
    770,
    1218,
    1219,
    1252,
    1254,
    1258,
  ];
  for (const byte of [...edges, quote.length - 1])
    for (let bit = byte * 8; bit < byte * 8 + 8; bit++) assert.ok(!accepted(flipped(bit)), `bit ${bit}`);
  // Anywhere else, and with what the certificates have after them.
  fc.assert(
    fc.property(fc.integer({ min: 0, max: quote.length * 8 - 1 }), (bit) => !accepted(flipped(bit))),
    { numRuns: 200 },
  );
  assert.ok(!accepted(Buffer.concat([quote, Buffer.of(0)])));
});

test('what is signed is what the published verifier signs for', async () => {
  const quote = await quoter.quote(Buffer.alloc(64, 7));
  const verifier = QuoteVerifier.newWithRootCa(platform.root);
  const collateral = issueCollateral(platform);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: (SIGNED_BYTES + 4 + 128) * 8 - 1 }), (bit) => {
      const changed = Buffer.from(quote);
      changed[bit >> 3] = changed[bit >> 3]! ^ (1 << (bit & 7));
      assert.throws(() => verifier.verify(changed, collateral, now()));
    }),
    { numRuns: 100 },
  );
});

test('a platform is made once, for its owner alone', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'berth-tee-'));
  try {
    const [first, beside] = await Promise.all([1, 2].map(() => SimulatedPlatform.open(directory)));
    assert.ok(first && beside);
    assert.deepEqual(beside.root, first.root);
    assert.deepEqual(beside.machineSecret(), first.machineSecret());
    assert.deepEqual(await readdir(directory), ['simulated-tee.json']);
    const again = await SimulatedPlatform.open(directory);
    assert.deepEqual(again.root, first.root);
    const path = join(directory, 'simulated-tee.json');
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    const quote = await new SimulatedTdxQuoter(again, { mrtd: Buffer.alloc(48), bootEvents: [] }).quote(
      Buffer.alloc(64),
    );
    const verifier = QuoteVerifier.newWithRootCa(first.root);
    assert.equal(verifier.verify(quote, issueCollateral(first), now()).status, 'UpToDate');
    await writeFile(path, (await readFile(path, 'utf8')).replace('"format": 1', '"format": 2'));
    await assert.rejects(SimulatedPlatform.open(directory), /format 2/);
  } finally {
    await rm(directory, { recursive: true });
  }
});
