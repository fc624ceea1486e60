import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DecodeError } from './decode-error.ts';
import { emptyMessage } from './message.ts';
import { readQuery } from './query.ts';
import { Sample } from './testing/sample.ts';

function read(query: string): Record<string, unknown> {
  const values = readQuery(Sample, query);
  const defaults = emptyMessage(Sample);
  return Object.fromEntries(
    Object.entries(values).filter(([name, value]) => String(value) !== String(defaults[name] ?? null)),
  );
}

describe('readQuery', () => {
  for (const [query, expected] of [
    ['', {}],
    ['text=my/key/path&unknown=1', { text: 'my/key/path' }],
    ['text=a+b%20c%26', { text: 'a b c&' }],
    ['text=%c3%A9%E6%b8%ac100%', { text: 'é測100%' }],
    ['data=0xDEad', { data: Buffer.from('dead', 'hex') }],
    ['flag=true&count=7&big=18446744073709551615', { flag: true, count: 7, big: 18446744073709551615n }],
    ['flag=false&maybe_flag=false', { maybe_flag: false }],
    ['texts[0]=x&texts[1]=y', { texts: ['x', 'y'] }],
    ['texts%5B1%5D=y&texts%5B0%5D=x', { texts: ['x', 'y'] }],
    ['texts[]=x&texts[]=y', { texts: ['x', 'y'] }],
    ['texts=x&texts=y', { texts: ['x', 'y'] }],
    ['texts[10]=x&texts[2]=y', { texts: ['y', 'x'] }],
    ['inner[name]=n&inner[size]=3', { inner: { name: 'n', size: 3n } }],
    [
      'inners[0][name]=n&inners[1][size]=4',
      {
        inners: [
          { name: 'n', size: 0n },
          { name: '', size: 4n },
        ],
      },
    ],
    ['constructor=1&__proto__[x]=2', {}],
  ] as const)
    test(query || 'nothing', () => assert.deepEqual(read(query), expected));

  for (const [query, reason] of [
    ['data=abc', /data: odd number/],
    ['data=xy', /data: not hexadecimal/],
    ['flag=yes', /flag: expected true or false/],
    ['count=-1', /count: out of range/],
    ['count=1.0', /count: expected an integer/],
    ['count=', /count: expected an integer/],
    ['text=a%ff', /not UTF-8/],
    ['text=%c3x', /not UTF-8/],
    ['%c3%28=a', /not UTF-8/],
    ['text=a&text=b', /text: given more than once/],
    ['text[x]=a', /text: expected one value/],
    ['texts[x]=a', /texts\[x\]: expected an index/],
    [`inner${'[a]'.repeat(40)}=1`, /inner: nested too deep/],
    [`text=${'a'.repeat(20_000)}`, /too long/],
  ] as const)
    test(`refuses ${query.slice(0, 40)}`, () => {
      assert.throws(() => read(query), { name: 'DecodeError', message: reason });
    });

  test('any query is read or refused', () => {
    const key = fc.oneof(fc.constantFrom(...Object.keys(Sample.fields)), fc.string());
    const piece = fc.tuple(key, fc.constantFrom('', '[0]', '[]', '[name]', '[', ']['), fc.string());
    const near = fc
      .array(piece)
      .map((pieces) => pieces.map(([name, index, value]) => `${name}${index}=${value}`).join('&'));
    fc.assert(
      fc.property(fc.oneof(near, fc.string()), (query) => {
        try {
          readQuery(Sample, query);
        } catch (error) {
          assert.ok(error instanceof DecodeError, String(error));
        }
      }),
      { numRuns: 1000 },
    );
  });
});
