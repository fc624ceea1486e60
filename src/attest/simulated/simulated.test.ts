import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuoteVerifier } from '@phala/dcap-qvl';
import { issueCollateral } from './collateral.ts';
import { SimulatedPlatform } from './platform.ts';
import { SimulatedTdxQuoter } from './tdx-quoter.ts';

test('x', async () => {
  const platform = SimulatedPlatform.create();
  const quoter = new SimulatedTdxQuoter(platform, { mrtd: Buffer.alloc(48, 3), bootEvents: [] });
  const quote = await quoter.quote(Buffer.alloc(64, 7));
  const verifier = QuoteVerifier.newWithRootCa(platform.root);
  const now = Math.floor(Date.now() / 1000);
  const c = issueCollateral(platform);
  assert.equal(verifier.verify(quote, c, now).status, 'UpToDate');
  const t = performance.now();
  for (let i = 0; i < 20; i++) verifier.verify(quote, c, now);
  console.log((performance.now() - t) / 20);
  const t2 = performance.now();
  for (let i = 0; i < 100; i++) await quoter.quote(Buffer.alloc(64, 7));
  console.log((performance.now() - t2) / 100);
});
