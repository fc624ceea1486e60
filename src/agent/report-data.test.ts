import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { keccak_384, keccak_512 } from '@noble/hashes/sha3.js';
import { hashReportData } from './report-data.ts';

const data = Buffer.from('test');

describe('hashReportData', () => {
  test('hashes prefix and data with SHA-512 unless told otherwise', () => {
    const { reportData, algorithm, prefix } = hashReportData(data, '', '');
    const hex = reportData.toString('hex');
    assert.deepEqual(
      [hex.slice(0, 16), hex.slice(-7), algorithm, prefix],
      ['1864e059be7e1ec1', 'c52e532', 'sha512', 'app-data'],
    );
  });

  test('pads shorter hashes with zeros', () => {
    const { reportData } = hashReportData(data, 'sha256', 'mine');
    assert.deepEqual(reportData, Buffer.concat([createHash('sha256').update('mine:test').digest(), Buffer.alloc(32)]));
  });

  test('knows Keccak as it was before SHA-3', () => {
    assert.deepEqual(hashReportData(data, 'keccak512', '').reportData, Buffer.from(keccak_512('app-data:test')));
    assert.deepEqual(
      hashReportData(data, 'keccak384', '').reportData.subarray(0, 48),
      Buffer.from(keccak_384('app-data:test')),
    );
  });

  for (const name of ['sha384', 'sha3-256', 'sha3-384', 'sha3-512', 'keccak256'])
    test(name, () => assert.equal(hashReportData(data, name, '').algorithm, name));

  test('takes 64 raw bytes as they are', () => {
    const raw = Buffer.alloc(64, 7);
    assert.deepEqual(hashReportData(raw, 'raw', 'ignored'), { reportData: raw, algorithm: 'raw', prefix: '' });
    assert.throws(() => hashReportData(data, 'raw', ''), /must have 64 bytes/);
  });

  test('refuses hashes it does not know', () => {
    for (const name of ['md5', 'SHA512', 'keccak-256', 'constructor'])
      assert.throws(() => hashReportData(data, name, ''), { code: 'invalid_argument' });
  });
});
