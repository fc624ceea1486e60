import { createDecipheriv, createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto';
import { BerthError } from '../common/errors.ts';

/** Bounds of an encrypted environment. */
const MAX_CIPHERTEXT_BYTES = 2 * 1024 * 1024;
const MAX_VARIABLES = 1024;
const MAX_NAME_CHARACTERS = 255;
const MAX_VALUE_BYTES = 128 * 1024;
const MAX_TOTAL_BYTES = 1024 * 1024;

const PUBLIC_KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const pkcs8Head = Buffer.from('302e020100300506032b656e04220420', 'hex');
const spkiHead = Buffer.from('302a300506032b656e032100', 'hex');

/** An X25519 private key from its 32 bytes. */
function x25519PrivateKey(secret: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([pkcs8Head, secret]), format: 'der', type: 'pkcs8' });
}

/** The 32-byte public key that environments are encrypted to. */
export function envPublicKey(secret: Uint8Array): Buffer {
  const spki = createPublicKey(x25519PrivateKey(secret)).export({ format: 'der', type: 'spki' });
  return spki.subarray(spkiHead.length);
}

/**
 * Decrypts: sender's X25519 key (32) ‖ nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16). The shared secret is the AES key.
 *
 * @throws BerthError invalid_argument when it was not encrypted to this key or was changed
 */
export function decryptEnv(secret: Uint8Array, ciphertext: Uint8Array): Buffer {
  if (ciphertext.length > MAX_CIPHERTEXT_BYTES) throw invalid('it is too large');
  if (ciphertext.length < PUBLIC_KEY_BYTES + IV_BYTES + TAG_BYTES) throw invalid('it is cut off');
  const bytes = Buffer.from(ciphertext);
  const nonceEnd = PUBLIC_KEY_BYTES + IV_BYTES;
  try {
    // OpenSSL refuses public keys that give an all-zero secret.
    const sender = createPublicKey({
      key: Buffer.concat([spkiHead, bytes.subarray(0, PUBLIC_KEY_BYTES)]),
      format: 'der',
      type: 'spki',
    });
    const key = diffieHellman({ privateKey: x25519PrivateKey(secret), publicKey: sender });
    const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(PUBLIC_KEY_BYTES, nonceEnd));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(bytes.subarray(nonceEnd, -TAG_BYTES)), decipher.final()]);
  } catch (error) {
    throw new BerthError('invalid_argument', { reason: 'The encrypted environment cannot be decrypted' }, error);
  }
}

/** The variables of an environment, and those that the app does not allow. */
export interface Environment {
  readonly variables: ReadonlyMap<string, string>;
  /** Names that were left out; say so, or they are missed in the container. */
  readonly skipped: readonly string[];
}

/**
 * Reads a decrypted environment, `{"env":[{"key","value"}]}`.
 *
 * @param allowed names that the app may be given
 * @throws BerthError invalid_argument for what no environment can hold
 */
export function parseEnv(plaintext: Uint8Array, allowed: readonly string[]): Environment {
  const list = readList(plaintext);
  if (list.length > MAX_VARIABLES) throw invalid(`it has more than ${MAX_VARIABLES} variables`);
  const permitted = new Set(allowed);
  const variables = new Map<string, string>();
  const skipped: string[] = [];
  let total = 0;
  for (const { key, value } of list) {
    if (typeof key !== 'string' || typeof value !== 'string') throw invalid('key and value are texts');
    if (!permitted.has(key)) {
      skipped.push(key.slice(0, MAX_NAME_CHARACTERS));
      continue;
    }
    if (key.length > MAX_NAME_CHARACTERS || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) throw invalid('a name is not one');
    const bytes = Buffer.byteLength(value);
    if (bytes > MAX_VALUE_BYTES) throw invalid(`${key} has more than ${MAX_VALUE_BYTES} bytes`);
    if (value.includes('\0')) throw invalid(`${key} has a NUL`);
    total += bytes;
    if (total > MAX_TOTAL_BYTES) throw invalid(`it has more than ${MAX_TOTAL_BYTES} bytes`);
    variables.set(key, value);
  }
  return { variables, skipped };
}

/** Text of an environment file as Docker and systemd read it: `KEY=value`, quoted where it must be. */
export function formatEnvFile(variables: ReadonlyMap<string, string>): string {
  const lines = Array.from(variables, ([key, value]) => `${key}=${quote(value)}\n`);
  return lines.join('');
}

function quote(value: string): string {
  if (/^[A-Za-z0-9_./:@%+,=-]*$/.test(value)) return value;
  return `"${value.replace(/[\\"$`]/g, '\\$&').replaceAll('\n', '\\n')}"`;
}

function readList(plaintext: Uint8Array): { readonly key?: unknown; readonly value?: unknown }[] {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(plaintext).toString());
  } catch {
    throw invalid('it is not JSON');
  }
  const list = (json as { env?: unknown } | null)?.env;
  if (!Array.isArray(list) || !list.every((item) => typeof item === 'object' && item !== null))
    throw invalid('it has no list "env"');
  return list;
}

function invalid(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason: `Invalid encrypted environment: ${reason}` });
}
