import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { capTimeouts } from './timeouts.ts';

describe('timeouts of clients', () => {
  for (const [given, kept] of [
    ['99999999H', '2147483S'],
    ['597H', '2147483S'],
    ['596H', '596H'],
    ['99999999M', '2147483S'],
    ['2147484S', '2147483S'],
    ['30S', '30S'],
    ['99999999m', '99999999m'],
    ['999999999H', '999999999H'],
    ['soon', 'soon'],
  ])
    it(`of gRPC, ${given}, become ${kept}`, () => {
      const headers = { 'grpc-timeout': given };
      capTimeouts(headers);
      assert.deepEqual(headers, { 'grpc-timeout': kept });
    });

  it('of Connect are no longer than a timer', () => {
    for (const [given, kept] of [
      ['9999999999', '2147483647'],
      ['1000', '1000'],
    ]) {
      const headers = { 'connect-timeout-ms': given };
      capTimeouts(headers);
      assert.deepEqual(headers, { 'connect-timeout-ms': kept });
    }
  });
});
