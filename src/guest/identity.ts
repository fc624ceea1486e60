/** How an identity is told to a guest, and what the guest answers. */

import type { GuestHello, GuestIdentified, GuestIdentity, GuestStep } from './guest.ts';
import { decodeParameterList, Parameters, tag } from './protocol.ts';
import { guestText } from './session.ts';
import { makeSshHostKey } from './ssh-host-key.ts';

const MAX_STEPS = 32;
const MAX_DETAIL = 160;
/** u8 outcome, u32 microseconds, u8 length of the name. */
const STEP_HEADER_BYTES = 6;
const outcomes: Readonly<Record<number, GuestStep['outcome']>> = { 1: 'done', 2: 'skipped', 3: 'failed' };

/** The parameters of `configure`. */
export function identityParameters(identity: GuestIdentity): Parameters {
  const { network } = identity;
  const parameters = clockParameters(identity.unixTimeMs)
    .add(tag.hostname, identity.hostname)
    .add(tag.entropy, identity.entropy);
  if (identity.renew) {
    const { privateFile, publicFile } = makeSshHostKey(`root@${identity.hostname}`);
    parameters.add(tag.renew, 1).add(tag.sshKey, privateFile).add(tag.sshPublicKey, publicFile);
  }
  if (identity.keepNetwork) parameters.add(tag.keepNetwork, 1);
  if (network) {
    // What follows a MAC, until the next one, is about its interface.
    for (const { mac, ipv4, gateway4, ipv6, gateway6 } of [network, ...(identity.furtherNetworks ?? [])]) {
      parameters.add(tag.mac, Buffer.from(mac.replaceAll(':', ''), 'hex'));
      if (ipv4) parameters.add(tag.ipv4, ipv4);
      if (gateway4) parameters.add(tag.gateway4, gateway4);
      if (ipv6) parameters.add(tag.ipv6, ipv6);
      if (gateway6) parameters.add(tag.gateway6, gateway6);
    }
    for (const nameserver of network.nameservers) parameters.add(tag.nameserver, nameserver);
  }
  return parameters;
}

/** The parameters of a `configure` that sets the clock and nothing else. */
export function clockParameters(unixTimeMs: number): Parameters {
  return new Parameters().add(tag.unixTimeNs, BigInt(Math.round(unixTimeMs * 1000)) * 1000n);
}

/** What a guest says of itself. Parts it leaves out are empty. */
export function decodeHello(bytes: Buffer): GuestHello {
  const values = new Map(decodeParameterList(bytes));
  const text = (parameter: number): string => values.get(parameter)?.toString('utf8') ?? '';
  return {
    protocol: values.get(tag.protocol)?.readUInt8(0) ?? 0,
    bootId: text(tag.bootId),
    kernel: text(tag.kernel),
  };
}

export interface IdentityAnswer extends GuestIdentified {
  /** The guest's clock when it answered, milliseconds since the epoch. */
  readonly unixTimeMs: number;
}

/** Decodes the answer to `configure`. Throws RangeError when it is damaged. */
export function decodeIdentified(bytes: Buffer): IdentityAnswer {
  const values = new Map(decodeParameterList(bytes));
  return {
    hello: decodeHello(bytes),
    steps: decodeSteps(bytes),
    clockSkewMs: nanosecondsAsMs(values.get(tag.clockSkewNs)),
    unixTimeMs: nanosecondsAsMs(values.get(tag.unixTimeNs)),
  };
}

/** The steps in a guest's answer. Throws RangeError when one is damaged. */
export function decodeSteps(bytes: Buffer): readonly GuestStep[] {
  return decodeParameterList(bytes)
    .filter(([parameter]) => parameter === tag.step)
    .slice(0, MAX_STEPS)
    .map(([, value]) => decodeStep(value));
}

function decodeStep(value: Buffer): GuestStep {
  const outcome = outcomes[value.readUInt8(0)];
  const micros = value.readUInt32BE(1);
  const nameEnd = STEP_HEADER_BYTES + value.readUInt8(5);
  const name = value.subarray(STEP_HEADER_BYTES, nameEnd).toString('latin1');
  if (outcome === undefined || nameEnd > value.length || !/^[a-z-]{1,32}$/.test(name)) {
    throw new RangeError('a step is malformed');
  }
  const detail = value.subarray(nameEnd).toString('utf8').slice(0, MAX_DETAIL);
  return { name, outcome, detail: guestText(detail), micros };
}

function nanosecondsAsMs(value: Buffer | undefined): number {
  return value === undefined ? 0 : Number(value.readBigInt64BE(0)) / 1e6;
}
