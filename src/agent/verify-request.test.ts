import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { BerthError } from '../common/errors.ts';
import { readVerifyFile, readVerifyInput, readVerifyRequest } from './verify-request.ts';

describe('readVerifyRequest', () => {
  test('an attestation with expectations', () => {
    const { input, expected } = readVerifyRequest({
      attestation: '0x00ff',
      expected: { report_data: '1234', app_id: 'ab'.repeat(20), app_compose: '{}', key_provider: 'kms' },
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

  test('registers of the boot that are expected', () => {
    const rtmr1 = 'ab'.repeat(48);
    const { expected } = readVerifyRequest({ attestation: '00', expected: { mrtd: `0x${rtmr1}`, rtmr1 } });
    const register = Buffer.alloc(48, 0xab);
    assert.deepEqual(expected, { measurements: { mrtd: register, rtmr1: register } });
  });

  test('a reply of GetQuote', () => {
    const { input } = readVerifyRequest({ quote: '00', event_log: '[]', vm_config: '{}', attestation: '' });
    assert.deepEqual(input, { quote: Buffer.of(0), eventLog: [], config: '{}' });
  });

  test('what the prover says about itself is no expectation', () => {
    const { input, expected } = readVerifyRequest({ quote: '00', event_log: '[]', report_data: '12' });
    assert.deepEqual(expected, {});
    assert.deepEqual(input, { quote: Buffer.of(0), eventLog: [], config: '', reportData: Buffer.of(0x12) });
    const file = { attestation: '00', report_data: '12', app_id: '34', app_compose: '{}', key_provider: 'kms' };
    assert.deepEqual(readVerifyInput(file), { attestation: Buffer.of(0) });
  });

  for (const name of [
    'report_data',
    'app_id',
    'compose_hash',
    'app_compose',
    'os_image_hash',
    'key_provider',
    'mr_config',
    'mrtd',
    'rtmr0',
    'rtmr1',
    'rtmr2',
  ])
    test(`refuses ${name} outside of expected, and an empty one in it`, () => {
      const refused = { code: 'invalid_argument', message: new RegExp(name) };
      assert.throws(() => readVerifyRequest({ attestation: '00', [name]: '12' }), refused);
      for (const empty of ['', '0x', null])
        assert.throws(() => readVerifyRequest({ attestation: '00', expected: { [name]: empty } }), refused);
    });

  for (const [what, json, reason] of [
    ['nothing', null, /expected an object/],
    ['a list', [], /expected an object/],
    ['an empty object', {}, /neither attestation nor quote/],
    ['an expectation that is not known', { attestation: '00', expected: { appId: '00' } }, /appId is not known/],
    ['a list of expectations', { attestation: '00', expected: [] }, /expected: expected an object/],
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
    const names = fc.constantFrom('attestation', 'quote', 'event_log', 'vm_config', 'report_data', 'expected');
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
