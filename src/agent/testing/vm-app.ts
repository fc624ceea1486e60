/**
 * A program of an app, as it runs in a VM: uses the published SDK and prints what it was given as one line of JSON. Its
 * arguments are the name of an event to emit, and a socket; without one it is the SDK that finds the agent.
 */

import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer } from 'node:tls';
import { DstackClient } from '@phala/dstack-sdk';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** What the program prints. */
export interface VmAppOutput {
  readonly version: string;
  readonly key: string;
  readonly publicKey: string;
  readonly signatureIsValid: boolean;
  readonly quote: { readonly quote: string; readonly event_log: string; readonly vm_config: string };
  readonly replayed: readonly string[];
  readonly attestation: string;
  readonly info: {
    readonly app_id: string;
    readonly compose_hash: string;
    readonly tcb_info: { readonly rtmr3: string };
  };
  /** PEM of the certificate that its TLS server showed its TLS client. */
  readonly peer: string;
}

async function main(event = '', socket?: string): Promise<VmAppOutput> {
  const client = new DstackClient(socket);
  const { key } = await client.getKey('wallet', 'signing');
  await client.emitEvent(event, 'payload');
  const { quote, event_log, vm_config, replayRtmrs } = await client.getQuote('from the VM');
  const { attestation } = await client.attest('from the VM');
  const signed = await client.sign('secp256k1', 'message');
  const { valid } = await client.verify('secp256k1', 'message', signed.signature, signed.public_key);
  const { app_id, compose_hash, tcb_info } = await client.info();
  return {
    version: (await client.version()).version,
    key: hex(key),
    publicKey: hex(signed.public_key),
    signatureIsValid: valid,
    quote: { quote, event_log, vm_config: vm_config ?? '' },
    replayed: replayRtmrs(),
    attestation,
    info: { app_id, compose_hash, tcb_info: { rtmr3: tcb_info.rtmr3 } },
    peer: await serveTls(client),
  };
}

/** Serves TLS with a key of the agent's, connects, and returns the certificate that was shown. */
async function serveTls(client: DstackClient): Promise<string> {
  const { key, certificate_chain: chain } = await client.getTlsKey({
    subject: 'localhost',
    altNames: ['localhost'],
    usageRaTls: true,
  });
  const server = createServer({ key, cert: chain.join('\n') }, (socket) => socket.end());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', ca: chain.at(-1)! });
  await once(socket, 'secureConnect');
  const certificate = socket.getPeerX509Certificate()!.toString();
  socket.destroy();
  server.close();
  return certificate;
}

main(...process.argv.slice(2)).then((output) => console.log(JSON.stringify(output)));
