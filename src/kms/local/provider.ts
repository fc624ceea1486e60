import { createServer, type Server, type Socket } from 'node:net';
import { sha256 } from '../../attest/hash.ts';
import type { SimulatedPlatform } from '../../attest/simulated/platform.ts';
import { parseQuote } from '../../attest/tdx-quote.ts';
import type { Trust } from '../../attest/verify/input.ts';
import { verifyQuote } from '../../attest/verify/verify.ts';
import { bytesField, encodeFrame, readFrame } from './frames.ts';
import { sealBox } from './sealed-box.ts';
import { localProviderEnclave, localSeed } from './seed.ts';

export interface LocalProviderOptions {
  /** 32 bytes that never leave this machine: every key comes from them. */
  readonly secret: Buffer;
  /** Signs what the provider says. On hardware that is an SGX enclave; here it is simulated, and says so. */
  readonly platform: SimulatedPlatform;
  /** Whose quotes are believed. */
  readonly trust: () => Trust;
  readonly log: { info(fields: object, text: string): void };
  /** Milliseconds that a connection has in all. Default 30,000. */
  readonly timeoutMs?: number;
}

const MAX_CONNECTIONS = 64;

/**
 * Gives a VM on this machine a key that belongs to what it booted and to the app that it runs, with no other service: the
 * VM sends a quote with an X25519 key in it, and gets its key in a box for that key.
 */
export function createLocalProvider(options: LocalProviderOptions): Server {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // Not of silence: a sender that drips would hold its place.
    const deadline = setTimeout(() => socket.destroy(), options.timeoutMs ?? 30_000);
    socket.on('close', () => clearTimeout(deadline));
    socket.on('error', () => socket.destroy());
    answer(socket, options).catch((error: unknown) => {
      options.log.info({ reason: (error as Error).message }, 'no key was given');
      socket.destroy();
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  return server;
}

async function answer(socket: Socket, { secret, platform, trust }: LocalProviderOptions): Promise<void> {
  const quote = bytesField(await readFrame(socket), 'quote');
  const report = await verifyQuote(quote, trust());
  if (!report.valid) throw new Error(report.checks.find(({ ok }) => !ok)?.detail ?? 'the quote is not good');
  const { report: measured } = parseQuote(quote);
  const encrypted = sealBox(measured.reportData.subarray(0, 32), localSeed(secret, measured));
  const binding = Buffer.concat([sha256(encrypted), Buffer.alloc(32)]);
  const reply = { encrypted_key: encrypted, provider_quote: platform.enclaveQuote(localProviderEnclave, binding) };
  socket.end(encodeFrame(reply));
}
