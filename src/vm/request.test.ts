import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type CreateVm, checkRequest } from './request.ts';

const request: CreateVm = { cpus: 1, memoryMiB: 128, egress: { outbound: false, allow: [] } };
const root = { name: 'root', source: { asset: '/a' }, root: true };
const own: Partial<CreateVm> = { boot: { kernel: '/k' }, guestChannel: 'optional', disks: [root] };

function labels(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`${n}`, '']));
}

describe('a request', () => {
  const sound: readonly (readonly [string, Partial<CreateVm>])[] = [
    ['of the least', {}],
    [
      'with as much as there may be',
      {
        id: 'a'.repeat(40),
        name: 'ä'.repeat(127),
        tenant: 'x'.repeat(128),
        labels: { ...labels(63), ['k'.repeat(256)]: 'v'.repeat(4096) },
        apiRecord: 'x'.repeat(65_536),
        consoleFile: 'vm-console.log',
        kernelArgs: 'x'.repeat(1024),
        nics: Array.from({ length: 8 }, (_, n) => ({ name: `eth${n}` })),
        disks: Array.from({ length: 8 }, (_, n) => ({ name: `d${n}`, source: { image: 'i' } })),
      },
    ],
    ['with a kernel of its own', own],
  ];
  for (const [what, change] of sound) it(`${what} is sound`, () => checkRequest({ ...request, ...change }));

  const refused: readonly (readonly [string, Partial<CreateVm>, RegExp])[] = [
    ['an id with a slash', { id: 'a/b' }, /^an id is/],
    ['too long an id', { id: 'a'.repeat(41) }, /^an id is/],
    ['too long a name', { name: 'ä'.repeat(128) }, /^name/],
    ['a name of two lines', { name: 'a\nb' }, /^name/],
    ['half a character as a name', { name: 'a\ud800' }, /^name/],
    ['half a character as the key of a label', { labels: { '\udfff': '' } }, /^labels/],
    ['half a character as a label', { labels: { a: '\ud800' } }, /^labels/],
    ['half a character kept with it', { apiRecord: '\ud800' }, /^what an API keeps/],
    ['a tenant with a space', { tenant: 'a b' }, /^tenant/],
    ['too long a tenant', { tenant: 'x'.repeat(129) }, /^tenant/],
    ['too many labels', { labels: labels(65) }, /^labels/],
    ['a label without a key', { labels: { '': 'x' } }, /^the key/],
    ['too long a key', { labels: { ['ä'.repeat(129)]: '' } }, /^the key/],
    ['too long a value', { labels: { a: 'v'.repeat(4097) } }, /^the value/],
    ['too much of an API', { apiRecord: 'x'.repeat(65_537) }, /^what an API keeps/],
    ['a console elsewhere', { consoleFile: '../../etc/passwd' }, /^consoleFile/],
    ['a console with a path', { consoleFile: '/tmp/x' }, /^consoleFile/],
    ['a hidden console', { consoleFile: '.x' }, /^consoleFile/],
    ['kernel parameters of two lines', { kernelArgs: 'a\nb' }, /^kernelArgs/],
    ['too many kernel parameters', { kernelArgs: 'x'.repeat(1025) }, /^kernelArgs/],
    ['too many networks', { nics: Array.from({ length: 9 }, (_, n) => ({ name: `${n}` })) }, /^networks/],
    ['two networks of one name', { nics: [{ name: 'a' }, { name: 'a' }] }, /^two networks/],
    ['a network without a name', { nics: [{ name: '' }] }, /^the name of a network/],
    ['half a MAC', { nics: [{ name: 'a', mac: '02:00' }] }, /^network a: a MAC/],
    [
      'an address of the family it is without',
      { nics: [{ name: 'a', families: 'ipv6', ipv4: { address: '10.0.0.2' } }] },
      /^network a/,
    ],
    ['a resolver that is no address', { nics: [{ name: 'a', nameservers: ['dns.example'] }] }, /^Invalid IP/],
    [
      'too many resolvers',
      { nics: [{ name: 'a', nameservers: new Array(9).fill('10.0.0.1') }] },
      /^network a: name servers/,
    ],
    [
      'two disks of one name',
      {
        disks: [
          { name: 'a', source: { asset: '/a' } },
          { name: 'a', source: { asset: '/b' } },
        ],
      },
      /^two disks/,
    ],
    ['a root disk beside that of its image', { disks: [root] }, /^the root disk/],
    ['a kernel and an image', { ...own, imageId: 'i' }, /^a VM has a kernel of its own, or/],
    ['a kernel and a snapshot', { ...own, snapshotId: 's' }, /^a VM has a kernel of its own, or/],
    ['a kernel of its own and a channel', { ...own, guestChannel: 'required' }, /^the guest of a kernel/],
    ['a kernel of its own without a root', { ...own, disks: [] }, /^exactly one/],
    ['a kernel of its own with two roots', { ...own, disks: [root, { ...root, name: 'b' }] }, /^exactly one/],
  ];
  for (const [what, change, reason] of refused)
    it(`with ${what} is refused`, () => {
      assert.throws(() => checkRequest({ ...request, ...change }), { name: 'BerthError', http: 400, message: reason });
    });
});
