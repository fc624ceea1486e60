import { createConnection } from 'node:net';
import { sha256 } from '../../attest/hash.ts';
import { readEnclave } from '../../attest/sgx-quote.ts';
import type { Trust } from '../../attest/verify/input.ts';
import { bytesField, encodeFrame, readFrame } from './frames.ts';
import { boxKeyPair, openBox } from './sealed-box.ts';

/** What the provider answers. */
export interface SealingKeyReply {
  readonly encryptedKey: Buffer;
  /** SGX quote of version 3 that binds the encrypted key. */
  readonly providerQuote: Buffer;
}

export interface LocalKeyOptions {
  /** A quote over 64 bytes of report data. */
  readonly quote: (reportData: Buffer) => Promise<Buffer>;
  /** Passes a quote to the provider; in a VM, through the host. */
  readonly ask: (quote: Buffer) => Promise<SealingKeyReply>;
  /** Hex that the provider's enclave must have; empty when any will do. */
  readonly pinned: string;
  /** Whose word for the provider is believed, with the collateral of enclaves. */
  readonly trust: Trust;
}

/**
 * The seed of the keys of an app whose key provider is the machine's own.
 *
 * @returns 32 bytes, and what identifies the provider, in hex
 * @throws Error when the provider is another, or what it says is not its own
 */
export async function requestLocalSeed(
  options: LocalKeyOptions,
): Promise<{ readonly seed: Buffer; readonly keeper: string }> {
  const { quote, ask, pinned, trust } = options;
  const { privateKey, publicKey } = boxKeyPair();
  const { encryptedKey, providerQuote } = await ask(await quote(Buffer.concat([publicKey, Buffer.alloc(32)])));
  await checkProvider(providerQuote, trust);
  const { mrEnclave, reportData } = readEnclave(providerQuote);
  const keeper = mrEnclave.toString('hex');
  if (pinned !== '' && keeper !== pinned.toLowerCase()) throw new Error('the key provider is another one');
  if (!reportData.subarray(0, 32).equals(sha256(encryptedKey))) throw new Error('the key is not the provider’s');
  return { seed: openBox(privateKey, encryptedKey), keeper };
}

/** Asks a provider on this machine. */
export async function askLocalProvider(host: string, port: number, quote: Buffer): Promise<SealingKeyReply> {
  const socket = createConnection({ host, port });
  try {
    socket.end(encodeFrame({ quote }));
    const reply = await readFrame(socket);
    return {
      encryptedKey: bytesField(reply, 'encrypted_key'),
      providerQuote: bytesField(reply, 'provider_quote'),
    };
  } finally {
    socket.destroy();
  }
}

async function checkProvider(quote: Buffer, { root, collateral, now = new Date() }: Trust): Promise<void> {
  if (collateral === undefined) throw new Error('collateral is needed to verify the key provider');
  const { constants, QuoteVerifier } = await import('@phala/dcap-qvl');
  const verifier = QuoteVerifier.newWithRootCa(root ?? constants.TRUSTED_ROOT_CA_DER);
  const { status } = verifier.verify(quote, collateral, Math.floor(now.getTime() / 1000));
  if (status !== 'UpToDate') throw new Error(`the key provider's platform is ${status}`);
}
