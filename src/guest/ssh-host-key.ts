/** Ed25519 host keys for SSH servers, in the files' own formats (OpenSSH's PROTOCOL.key; RFC 4253, RFC 8709). */

import { generateKeyPairSync, randomBytes } from 'node:crypto';

const TYPE = 'ssh-ed25519';
const CIPHER_BLOCK = 8;
const LINE = 70;

export interface SshHostKey {
  /** Content of `ssh_host_ed25519_key`. */
  readonly privateFile: string;
  /** Content of `ssh_host_ed25519_key.pub`. */
  readonly publicFile: string;
}

/** A new key. It is kept nowhere. */
export function makeSshHostKey(comment: string): SshHostKey {
  const { privateKey } = generateKeyPairSync('ed25519');
  const { x = '', d = '' } = privateKey.export({ format: 'jwk' });
  const [point, seed] = [Buffer.from(x, 'base64url'), Buffer.from(d, 'base64url')];
  const publicBlob = Buffer.concat([string(TYPE), string(point)]);
  const check = randomBytes(4);
  const secret = Buffer.concat([
    ...[check, check, string(TYPE), string(point)],
    ...[string(Buffer.concat([seed, point])), string(comment)],
  ]);
  const padding = Buffer.from(Array.from({ length: -secret.length & (CIPHER_BLOCK - 1) }, (_, index) => index + 1));
  const file = Buffer.concat([
    ...[Buffer.from('openssh-key-v1\0'), string('none'), string('none'), string('')],
    ...[number(1), string(publicBlob), string(Buffer.concat([secret, padding]))],
  ]);
  const lines = file.toString('base64').match(new RegExp(`.{1,${LINE}}`, 'g')) ?? [];
  return {
    privateFile: `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines.join('\n')}\n-----END OPENSSH PRIVATE KEY-----\n`,
    publicFile: `${TYPE} ${publicBlob.toString('base64')} ${comment}\n`,
  };
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([number(bytes.length), bytes]);
}
