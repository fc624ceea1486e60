import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import { z } from 'zod';

/** How a secret is protected where it lies. */
export type Sealing =
  /** By the file's mode alone. */
  { readonly kind: 'none' } | PassphraseSealing | { readonly kind: 'tpm'; readonly tpm: SealingTpm };

export interface PassphraseSealing {
  readonly kind: 'passphrase';
  readonly passphrase: string;
  /** What a guess costs, as the exponent of scrypt's N: default 17, which is 128 MiB and about half a second. */
  readonly logCost?: number;
}

/** A TPM that keeps 32 bytes for this machine. */
export interface SealingTpm {
  /** @returns what {@link SealingTpm.unseal} takes, which is not secret */
  seal(secret: Buffer): Promise<Buffer>;
  unseal(sealed: Buffer): Promise<Buffer>;
}

/** Why a sealed file cannot be opened, or a root not be put in place; for the operator. */
export class SealError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'SealError';
  }
}

const FORMAT = 1;
const ALGORITHM = 'aes-256-gcm';
const KEY_BYTES = 32;
const DEFAULT_LOG_COST = 17;
const deriveWithScrypt = promisify<string, Buffer, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(
  scrypt,
);

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/);
const encrypted = { nonce: base64, ciphertext: base64, tag: base64 };
const schema = z.discriminatedUnion('sealing', [
  z.strictObject({ format: z.literal(FORMAT), sealing: z.literal('none'), content: base64 }),
  z.strictObject({
    format: z.literal(FORMAT),
    sealing: z.literal('passphrase'),
    // Bounded: a file from outside must not make the reader take all memory.
    scrypt: z.strictObject({
      N: z
        .int()
        .min(2)
        .max(2 ** 20),
      r: z.int().min(1).max(16),
      p: z.int().min(1).max(4),
      salt: base64,
    }),
    ...encrypted,
  }),
  z.strictObject({ format: z.literal(FORMAT), sealing: z.literal('tpm'), key: base64, ...encrypted }),
]);
type Sealed = z.infer<typeof schema>;

/** Seals bytes, as JSON text. */
export async function seal(content: Uint8Array, sealing: Sealing): Promise<string> {
  return `${JSON.stringify(await sealContent(content, sealing), null, 2)}\n`;
}

async function sealContent(content: Uint8Array, sealing: Sealing): Promise<Sealed> {
  switch (sealing.kind) {
    case 'none':
      return { format: FORMAT, sealing: 'none', content: Buffer.from(content).toString('base64') };
    case 'passphrase': {
      const salt = randomBytes(16);
      const cost = { N: 2 ** (sealing.logCost ?? DEFAULT_LOG_COST), r: 8, p: 1 };
      const key = await passphraseKey(sealing.passphrase, salt, cost);
      const parameters = { ...cost, salt: salt.toString('base64') };
      return { format: FORMAT, sealing: 'passphrase', scrypt: parameters, ...encrypt(key, content, 'passphrase') };
    }
    case 'tpm': {
      const key = randomBytes(KEY_BYTES);
      const sealedKey = await sealing.tpm.seal(key);
      return { format: FORMAT, sealing: 'tpm', key: sealedKey.toString('base64'), ...encrypt(key, content, 'tpm') };
    }
  }
}

/** What is needed to open a sealed text. */
export function sealingOf(text: string): Sealing['kind'] {
  return parse(text).sealing;
}

/**
 * Opens a sealed text.
 *
 * @throws SealError when it is sealed another way, the passphrase or the TPM is wrong, or it was changed
 */
export async function unseal(text: string, sealing: Sealing): Promise<Buffer> {
  const sealed = parse(text);
  switch (sealed.sealing) {
    case 'none':
      // Who asks for a seal must not be given what anybody could have written.
      if (sealing.kind !== 'none') throw new SealError('it is not sealed');
      return Buffer.from(sealed.content, 'base64');
    case 'passphrase': {
      if (sealing.kind !== 'passphrase') throw new SealError('a passphrase is needed');
      const key = await passphraseKey(sealing.passphrase, Buffer.from(sealed.scrypt.salt, 'base64'), sealed.scrypt);
      return decrypt(key, sealed, 'the passphrase is wrong, or the file was changed');
    }
    case 'tpm': {
      if (sealing.kind !== 'tpm') throw new SealError('it is sealed by a TPM');
      const key = await sealing.tpm.unseal(Buffer.from(sealed.key, 'base64'));
      return decrypt(key, sealed, 'the TPM is another one, or the file was changed');
    }
  }
}

function parse(text: string): Sealed {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    throw new SealError('not a sealed file of a format that is known');
  }
}

function passphraseKey(
  passphrase: string,
  salt: Buffer,
  { N, r, p }: { readonly N: number; readonly r: number; readonly p: number },
): Promise<Buffer> {
  return deriveWithScrypt(passphrase.normalize('NFC'), salt, KEY_BYTES, { N, r, p, maxmem: 256 * N * r });
}

interface Encrypted {
  readonly nonce: string;
  readonly ciphertext: string;
  readonly tag: string;
}

/** The kind of sealing is authenticated with the content. */
function encrypt(key: Buffer, content: Uint8Array, kind: string): Encrypted {
  const nonce = randomBytes(12);
  const cipher = createCipheriv(ALGORITHM, key, nonce);
  cipher.setAAD(additional(kind));
  const ciphertext = Buffer.concat([cipher.update(content), cipher.final()]);
  return {
    nonce: nonce.toString('base64'),
    ciphertext: ciphertext.toString('base64'),
    tag: cipher.getAuthTag().toString('base64'),
  };
}

function decrypt(key: Buffer, sealed: Encrypted & { readonly sealing: string }, failure: string): Buffer {
  try {
    const decipher = createDecipheriv(ALGORITHM, key, Buffer.from(sealed.nonce, 'base64'), { authTagLength: 16 });
    decipher.setAAD(additional(sealed.sealing));
    decipher.setAuthTag(Buffer.from(sealed.tag, 'base64'));
    return Buffer.concat([decipher.update(Buffer.from(sealed.ciphertext, 'base64')), decipher.final()]);
  } catch {
    throw new SealError(failure);
  }
}

function additional(kind: string): Buffer {
  return Buffer.from(`berth sealed file ${FORMAT} ${kind}`);
}
