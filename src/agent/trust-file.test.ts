import assert from 'node:assert/strict';
import { test } from 'node:test';
import { issueCollateral } from '../attest/simulated/collateral.ts';
import { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { certificateLabel, toPem } from '../attest/x509/pem.ts';
import { parseTrust, serializeTrust } from './trust-file.ts';

const platform = SimulatedPlatform.create();
const root = toPem(platform.root, certificateLabel);

test('a trust file is read as it was written', () => {
  const collateral = issueCollateral(platform);
  assert.deepEqual(parseTrust(serializeTrust(root, collateral)), { root: platform.root, collateral });
});

test('the key of a TPM can stand in it, alone too', () => {
  assert.deepEqual(parseTrust('{"attestation_key":"AAbb"}'), { attestationKey: Buffer.of(0xaa, 0xbb) });
});

test('what trusts nobody, or half, is refused', () => {
  for (const bad of [
    {},
    { root },
    { root, collateral: null },
    { root: 1, collateral: {} },
    { root: 'no PEM', collateral: {} },
    { attestation_key: 'x' },
    { attestation_key: '' },
  ])
    assert.throws(() => parseTrust(JSON.stringify(bad)), JSON.stringify(bad));
});
