import assert from 'node:assert/strict';
import { isIPv4, isIPv6 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { BerthError } from '../common/errors.ts';
import { formatAddress, parseAddress, parseCidr, readCidr, readInterface, withoutOverlap } from './cidr.ts';

const canonical: readonly (readonly [string, string])[] = [
  ['10.0.0.0/8', '10.0.0.0/8'],
  ['10.1.2.3/8', '10.0.0.0/8'],
  ['172.16.0.1', '172.16.0.1/32'],
  ['0.0.0.0/0', '0.0.0.0/0'],
  ['255.255.255.255/32', '255.255.255.255/32'],
  ['192.168.1.255/31', '192.168.1.254/31'],
  ['::/0', '::/0'],
  ['::', '::/128'],
  ['::1', '::1/128'],
  ['2001:DB8::/32', '2001:db8::/32'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1/128'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1/128'],
  ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0/128'],
  ['64:ff9b::192.0.2.33', '64:ff9b::c000:221/128'],
  ['2001:db8::ffff/112', '2001:db8::/112'],
];

for (const [text, expected] of canonical) {
  test(`parseCidr reads ${text} as ${expected}`, () => assert.equal(parseCidr(text), expected));
}

const malformed: readonly string[] = [
  '',
  ' ',
  'not an ip',
  'example.com',
  'localhost/8',
  '10.0.0',
  '10.0.0.0.0',
  '10.0.0.256',
  '010.0.0.1',
  '0x0a.0.0.1',
  '10.0.0.0/33',
  '10.0.0.0/-1',
  '10.0.0.0/08',
  '10.0.0.0/',
  '10.0.0.0/8/8',
  '10.0.0.0/255.0.0.0',
  '10.0.0.1 ',
  '10.0.0.1\n',
  '10.0.0.1; drop',
  '/8',
  ':',
  ':::',
  '1::2::3',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7:8::',
  ':1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:',
  'fe80::1%eth0',
  '2001:db8::/129',
  '12345::',
  '1.2.3.4::',
  '::1.2.3.4:5',
  '::ffff:10.0.0.1',
  '::ffff:a00:1',
  `${'1'.repeat(100)}`,
];

for (const text of malformed) {
  test(`parseCidr refuses ${JSON.stringify(text)}`, () => {
    assert.throws(
      () => parseCidr(text),
      (error) => error instanceof BerthError && error.code === 'invalid_cidr' && error.message.length < 128,
    );
  });
}

test('an interface keeps its host bits', () => {
  assert.deepEqual(readInterface('172.16.0.1/24'), { family: 4, address: 0xac100001n, prefix: 24 });
});

test('every address survives being written and read', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }), (address) => {
      const text = formatAddress(4, address);
      assert.ok(isIPv4(text));
      assert.deepEqual(parseAddress(text), { family: 4, address });
    }),
  );
  // Groups that are often zero find the mistakes in shortening.
  const group = fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 0xffffn }));
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const address = groups.reduce((sum, part) => (sum << 16n) | part, 0n);
      fc.pre(address >> 32n !== 0xffffn);
      const text = formatAddress(6, address);
      assert.ok(isIPv6(text));
      assert.deepEqual(parseAddress(text), { family: 6, address });
    }),
  );
});

test('what parseCidr accepts, the platform accepts, and the result is stable', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4Extended(), fc.ipV6(), fc.string({ maxLength: 50 })), (text) => {
      let result: string;
      try {
        result = parseCidr(text);
      } catch (error) {
        return error instanceof BerthError;
      }
      const [address = ''] = text.split('/');
      return (isIPv4(address) || isIPv6(address)) && parseCidr(result) === result;
    }),
  );
});

test('withoutOverlap keeps the covered addresses and leaves nothing nested', () => {
  const network = fc.tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 24, max: 32 }));
  fc.assert(
    fc.property(fc.array(network, { maxLength: 12 }), fc.integer({ min: 0, max: 255 }), (networks, last) => {
      const all = networks.map(([host, prefix]) => readCidr(`10.0.0.${host}/${prefix}`));
      const kept = withoutOverlap(all);
      const { address } = parseAddress(`10.0.0.${last}`);
      const covering = (list: typeof all) =>
        list.filter((c) => address >> BigInt(32 - c.prefix) === c.address >> BigInt(32 - c.prefix));
      assert.equal(covering([...kept]).length, Math.min(1, covering(all).length));
    }),
  );
});
