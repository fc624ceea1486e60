import { constants, generateKeyPairSync } from 'node:crypto';
import { createServer as createPlainServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { isIP } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { createDispatch, type Dispatch } from '../api/prpc/dispatch.ts';
import { sendReply, servePrpc } from '../api/prpc/http.ts';
import { errorReply } from '../api/prpc/reply.ts';
import { usage } from '../attest/tls/extensions.ts';
import { issueLeaf } from '../attest/tls/issue.ts';
import { publicKeyInfo } from '../attest/x509/certificate.ts';
import { certificateLabel, privateKeyPem, toPem } from '../attest/x509/pem.ts';
import { BerthError } from '../common/errors.ts';
import { shareConnections } from './connection-share.ts';
import { type KmsOptions, kmsHandlers } from './handlers.ts';
import { kmsService, publicService } from './protocol.ts';
import type { KmsRoot } from './root.ts';

/** What the KMS writes down; never keys. */
interface KmsLog {
  info(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export interface KmsServerOptions extends KmsOptions {
  /** Host names and addresses for the server's certificate. Guests know a KMS by its root, not by its name. */
  readonly names: readonly string[];
  readonly log: KmsLog;
}

/** Of the TLS handshake, milliseconds. */
const HANDSHAKE_TIMEOUT = 10_000;
/** Hexadecimal of the largest attestation, with what a request has around it. */
const MAX_REQUEST_BYTES = 3 * 1024 * 1024;
const limits = { requestTimeout: 60_000, headersTimeout: 20_000, maxHeaderSize: 16 * 1024 } as const;

/**
 * The listener for guests: HTTPS under the root of the KMS, with client certificates where a method needs one. Methods are
 * at `/prpc/<method>`, also as `KMS.<method>`.
 */
export function createKmsServer(options: KmsServerOptions): Server {
  const { root, names, log } = options;
  const dispatch = createDispatch(kmsService, kmsHandlers(options), {
    prefixes: ['KMS.'],
    onError: logFailure(log),
  });
  const server = createTlsServer(
    {
      ...limits,
      handshakeTimeout: HANDSHAKE_TIMEOUT,
      ...serverKey(root, names),
      minVersion: 'TLSv1.2',
      secureOptions: constants.SSL_OP_NO_TICKET,
      ca: toPem(root.tempCaCertificate, certificateLabel),
      requestCert: true,
      // Most methods need no certificate; a method that does looks at whether it was accepted.
      rejectUnauthorized: false,
    },
    handle(dispatch, ({ socket }) => ({ certificate: acceptedCertificate(socket as TLSSocket) })),
  );
  shareConnections(server);
  return server;
}

/** The listener for those who deploy apps: plain HTTP, and nothing that is secret. */
export function createPublicKmsServer(options: Omit<KmsServerOptions, 'names'>): Server {
  const { GetAppEnvEncryptPubKey, GetMeta } = kmsHandlers(options);
  const dispatch = createDispatch(
    publicService,
    {
      GetAppEnvEncryptPubKey: (request) => GetAppEnvEncryptPubKey(request, { certificate: null }),
      GetMeta: (request) => GetMeta(request, { certificate: null }),
    },
    { prefixes: ['KMS.'], onError: logFailure(options.log) },
  );
  const server = createPlainServer(
    limits,
    handle(dispatch, () => undefined),
  );
  shareConnections(server);
  return server;
}

function handle<C>(
  dispatch: Dispatch<C>,
  context: (request: IncomingMessage) => C,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    // Not by URL, which throws over some of what a client may send.
    const [, name, query = ''] = /^\/prpc\/([^/?#]+)(?:\?([^#]*))?$/.exec(request.url ?? '/') ?? [];
    if (name === undefined || (request.method !== 'GET' && request.method !== 'POST')) {
      request.resume();
      sendReply(response, errorReply(new BerthError('route_not_found'), 'json'));
      return;
    }
    servePrpc(dispatch, request, response, { name, query, maxBytes: MAX_REQUEST_BYTES }, context(request)).catch(() =>
      // The caller went away in the middle of its request.
      response.destroy(),
    );
  };
}

/** DER of the client's certificate when the handshake accepted it. */
function acceptedCertificate(socket: TLSSocket): Buffer | null {
  return socket.authorized ? (socket.getPeerX509Certificate()?.raw ?? null) : null;
}

/** A key for this run of the server, and its certificate, which says that it is a KMS's. */
function serverKey(root: KmsRoot, names: readonly string[]): { readonly key: string; readonly cert: string } {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const certificate = issueLeaf(
    {
      publicKey: publicKeyInfo(privateKey),
      subject: names.find((name) => isIP(name) === 0) ?? 'kms',
      altNames: names,
      serverAuth: true,
      clientAuth: false,
      withAttestation: false,
      withAppInfo: false,
      attestation: Buffer.alloc(0),
    },
    { key: root.caKey, certificate: root.caCertificate },
    { usage: usage.kms },
  );
  const cert = [certificate, root.caCertificate].map((each) => toPem(each, certificateLabel)).join('');
  return { key: privateKeyPem(privateKey), cert };
}

function logFailure(log: KmsLog): (method: string, error: BerthError) => void {
  return (method, error) => {
    const reason = error.cause instanceof Error ? error.cause.message : undefined;
    if (error.code === 'internal') log.error({ method, err: error.cause }, 'KMS call failed');
    else log.info({ method, code: error.code, reason }, 'KMS call refused');
  };
}
