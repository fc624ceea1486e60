import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { BerthError } from '../common/errors.ts';
import { readVerifyFile, readVerifyRequest } from './verify-request.ts';

describe('readVerifyRequest', () => {
  test('an attestation with expectations', () => {
    const { input, expected } = readVerifyRequest({
      attestation: '0x00ff',
      report_data: '1234',
      app_id: 'ab'.repeat(20),
      app_compose: '{}',
      key_provider: 'kms',
      unknown: 1,
    });
    assert.deepEqual(input, { attestation: Buffer.from('00ff', 'hex') });
    assert.deepEqual(expected, {
      reportData: Buffer.from('1234', 'hex'),
      appId: Buffer.alloc(20, 0xab),
      appCompose: '{}',
      keyProvider: { name: 'kms' },
    });
  });

  test('a reply of GetQuote', () => {
    const { input } = readVerifyRequest({ quote: '00', event_log: '[]', vm_config: '{}', attestation: '' });
    assert.deepEqual(input, { quote: Buffer.of(0), eventLog: [], config: '{}' });
  });

  for (const [what, json, reason] of [
    ['nothing', null, /expected an object/],
    ['a list', [], /expected an object/],
    ['an empty object', {}, /neither attestation nor quote/],
    ['half a byte', { attestation: 'abc' }, /attestation: odd number/],
    ['a number', { attestation: 1 }, /attestation: expected a string/],
    ['a quote without its log', { quote: '00' }, /event_log/],
    ['a log that is not JSON', { quote: '00', event_log: '{' }, /event_log: .* not JSON/],
    ['a log with a strange event', { quote: '00', event_log: '[{}]' }, /event_log: event 0/],
  ] as const)
    test(`refuses ${what}`, () => {
      assert.throws(() => readVerifyRequest(json), { code: 'invalid_argument', message: reason });
    });

  test('any JSON is read or refused', () => {
    const names = fc.constantFrom('attestation', 'quote', 'event_log', 'vm_config', 'report_data', 'app_compose');
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.dictionary(names, fc.jsonValue())), (json) => {
        try {
          readVerifyRequest(json);
        } catch (error) {
          assert.ok(error instanceof BerthError, String(error));
        }
      }),
    );
  });
});

describe('readVerifyFile', () => {
  for (const [what, content, expected] of [
    ['JSON', Buffer.from(' {"quote":"00"}\n'), { quote: '00' }],
    ['hexadecimal', Buffer.from('0x00FF\n'), { attestation: '0x00FF' }],
    ['bytes', Buffer.from([0, 255, 1]), { attestation: '00ff01' }],
  ] as const)
    test(what, () => assert.deepEqual(readVerifyFile(content), expected));

  test('refuses JSON that is none', () => {
    assert.throws(() => readVerifyFile(Buffer.from('{"quote"')), { code: 'invalid_argument' });
  });
});
