import type { Server } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { AttestedVm } from '../../attest/testing/attested-vm.ts';
import type { Trust } from '../../attest/verify/input.ts';
import { requestAppKeys } from '../client.ts';
import { defaultPolicy, type Policy } from '../policy.ts';
import { createRoot, type KmsRoot } from '../root.ts';
import { createKmsServer, createPublicKmsServer } from '../server.ts';
import { silentLog } from './silent-log.ts';

/** A KMS that listens, for guests and for those who deploy. */
export interface RunningKms extends AsyncDisposable {
  readonly root: KmsRoot;
  readonly url: string;
  readonly publicUrl: string;
  /** The keys that it gives the app of a VM. */
  keysOf(app: AttestedVm): ReturnType<typeof requestAppKeys>;
  /** Calls a method as anybody can, with a client certificate when there is one. */
  call(
    method: string,
    body: object,
    client?: { key: string; cert: string },
  ): Promise<{ readonly status: number | undefined; readonly text: string }>;
}

export interface RunningKmsOptions {
  /** Whose quotes it believes. */
  readonly trust: Trust;
  readonly root?: KmsRoot;
  readonly policy?: () => Promise<Policy>;
  /** Whose certificate it shows, having other keys. */
  readonly pretends?: KmsRoot;
}

/** Attests for the certificates of a VM. */
export const attestOf =
  ({ attestor }: AttestedVm) =>
  (reportData: Buffer): Promise<Buffer> =>
    attestor.attest(reportData, { stripped: true });

export async function startKms({
  trust,
  root = createRoot(),
  policy = async () => defaultPolicy,
  pretends,
}: RunningKmsOptions): Promise<RunningKms> {
  const shown = pretends === undefined ? root : { ...root, caCertificate: pretends.caCertificate };
  const options = { root: shown, policy, trust: () => trust, names: ['localhost', '127.0.0.1'], log: silentLog };
  const [tls, plain] = [createKmsServer(options), createPublicKmsServer(options)];
  const [url, publicUrl] = [`https://${await listen(tls)}`, `http://${await listen(plain)}`];
  return {
    root,
    url,
    publicUrl,
    keysOf: (app) => requestAppKeys({ url, pinnedRoot: '', vmConfig: '{}', attest: attestOf(app) }),
    call: (method, body, client) =>
      new Promise((resolve, reject) => {
        const request = httpsRequest(
          `${url}/prpc/${method}?json`,
          { method: 'POST', rejectUnauthorized: false, agent: false, ...client },
          async (response) =>
            resolve({ status: response.statusCode, text: Buffer.concat(await response.toArray()).toString() }),
        );
        request.on('error', reject).end(JSON.stringify(body));
      }),
    [Symbol.asyncDispose]: async () => {
      for (const server of [tls, plain]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}
