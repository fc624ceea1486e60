import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';

import type { GuestIdentity } from './guest.ts';
import { clockParameters, decodeIdentified, decodeSteps, identityParameters } from './identity.ts';
import { decodeParameterList, Parameters, tag } from './protocol.ts';

const identity: GuestIdentity = { hostname: 'vm', unixTimeMs: 1.5, entropy: new Uint8Array(32), network: null };

function tagsOf(change: Partial<GuestIdentity>): readonly number[] {
  const encoded = identityParameters({ ...identity, ...change }).encode();
  return decodeParameterList(encoded.subarray(4)).map(([parameter]) => parameter);
}

function step(outcome: number, name: string, detail: string | Buffer, nameLength = name.length): Buffer {
  const head = Buffer.from([outcome, 0, 0, 1, 2, nameLength]);
  return Buffer.concat([head, Buffer.from(name), Buffer.from(detail)]);
}

function answer(...steps: readonly Buffer[]): Buffer {
  const parameters = new Parameters();
  for (const one of steps) parameters.add(tag.step, one);
  return parameters.encode().subarray(4);
}

test('only a machine that is new is told to make anew, with a key of its own', () => {
  const plain = [tag.unixTimeNs, tag.hostname, tag.entropy];
  assert.deepEqual(tagsOf({}), plain);
  assert.deepEqual(tagsOf({ renew: false }), plain);
  assert.deepEqual(tagsOf({ renew: true }), [...plain, tag.renew, tag.sshKey, tag.sshPublicKey]);
});

test('a machine that has its network is told to keep it', () => {
  const plain = tagsOf({ renew: true });
  assert.deepEqual(tagsOf({ renew: true, keepNetwork: true }), [...plain, tag.keepNetwork]);
});

test('addresses that are null are not sent', () => {
  const network = {
    ...{ mac: '52:54:00:00:00:01', ipv4: '10.0.0.2/24', gateway4: null, ipv6: null, gateway6: null },
    nameservers: ['10.0.0.1', '10.0.0.3'],
  };
  assert.deepEqual(tagsOf({ network }).slice(3), [tag.mac, tag.ipv4, tag.nameserver, tag.nameserver]);
});

test('each further interface begins with its MAC', () => {
  const one = { mac: '52:54:00:00:00:01', ipv4: '10.0.0.2/24', gateway4: '10.0.0.1', ipv6: null, gateway6: null };
  const other = { ...one, mac: '52:54:00:00:00:02', gateway4: null, ipv6: 'fd00::2/64' };
  const change = { network: { ...one, nameservers: ['10.0.0.1'] }, furtherNetworks: [other] };
  assert.deepEqual(tagsOf(change).slice(3), [
    tag.mac,
    tag.ipv4,
    tag.gateway4,
    tag.mac,
    tag.ipv4,
    tag.ipv6,
    tag.nameserver,
  ]);
});

test('the time is sent to the microsecond', () => {
  const [[, value] = []] = decodeParameterList(clockParameters(1_700_000_000_000.123).encode().subarray(4));
  assert.equal(value?.readBigUInt64BE(), 1_700_000_000_000_123_000n);
});

test('steps are read in order', () => {
  assert.deepEqual(decodeSteps(answer(step(1, 'clock', ''), step(2, 'machine-id', 'kept'), step(3, 'disk', 'full'))), [
    { name: 'clock', outcome: 'done', detail: '', micros: 258 },
    { name: 'machine-id', outcome: 'skipped', detail: 'kept', micros: 258 },
    { name: 'disk', outcome: 'failed', detail: 'full', micros: 258 },
  ]);
});

test('what a guest says of its steps is bounded and printable', () => {
  const steps = decodeSteps(answer(...Array.from({ length: 100 }, () => step(1, 'x', `\u001b[2J${'y'.repeat(5000)}`))));
  assert.equal(steps.length, 32);
  assert.ok(steps.every(({ detail }) => /^\?\[2Jy+$/.test(detail) && detail.length === 160));
});

for (const [what, damaged] of [
  ['an unknown outcome', step(4, 'clock', '')],
  ['a name that is not one', step(1, 'Clock!', '')],
  ['no name', step(1, '', 'detail')],
  ['a name longer than the step', step(1, 'clock', '', 200)],
  ['no head', Buffer.from([1, 0])],
] as const) {
  test(`a step with ${what} is refused`, () => {
    assert.throws(() => decodeSteps(answer(damaged)), RangeError);
  });
}

test('an answer is read, with a clock that was behind', () => {
  const bytes = new Parameters()
    .add(tag.protocol, Buffer.from([1]))
    .add(tag.bootId, 'boot')
    .add(tag.kernel, '6.1')
    .add(tag.clockSkewNs, BigInt.asUintN(64, -2_500_000n))
    .add(tag.unixTimeNs, 1_700_000_000_000_000_000n)
    .encode();
  assert.deepEqual(decodeIdentified(bytes.subarray(4)), {
    hello: { protocol: 1, bootId: 'boot', kernel: '6.1' },
    steps: [],
    clockSkewMs: -2.5,
    unixTimeMs: 1.7e12,
  });
});

test('an answer that is damaged anywhere is read or refused, nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      try {
        decodeIdentified(Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof RangeError, String(error));
      }
    }),
  );
});

test('every new machine has an SSH key of its own, in OpenSSH’s format', () => {
  const [first, second] = [sshKeyOf(), sshKeyOf()];
  assert.notEqual(first.publicFile, second.publicFile);
  assert.match(first.publicFile, /^ssh-ed25519 [A-Za-z0-9+/]+ root@vm\n$/);
  assert.match(first.privateFile, /^-----BEGIN OPENSSH PRIVATE KEY-----\n([A-Za-z0-9+/=]{1,70}\n)+-----END OPENSSH/);
});

function sshKeyOf(): { readonly privateFile: string; readonly publicFile: string } {
  const encoded = identityParameters({ ...identity, renew: true }).encode();
  const values = new Map(decodeParameterList(encoded.subarray(4)));
  return { privateFile: String(values.get(tag.sshKey)), publicFile: String(values.get(tag.sshPublicKey)) };
}
