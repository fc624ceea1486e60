/** The certificate of the port, in files that are replaced while it is served. */

import { unwatchFile, watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type Server } from 'node:tls';
import type { Log } from '../../common/log.ts';

/** Paths of PEM files: the certificate with its chain, and its key. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

export interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Rejects when a file cannot be read, or the key is not that of the certificate. */
export async function readCertificate(files: CertificateFiles): Promise<Certificate> {
  const [cert, key] = await Promise.all([readFile(files.cert), readFile(files.key)]);
  createSecureContext({ cert, key });
  return { cert, key };
}

/**
 * Looks for changes of the files every `intervalMs`, and gives new connections what is there then. What is no certificate, or
 * not yet whole, leaves the one from before. Ends when the server is closed.
 */
export function followCertificate(server: Server, files: CertificateFiles, intervalMs: number, log: Log): void {
  const paths = [files.cert, files.key];
  const reload = () => {
    readCertificate(files).then(
      (certificate) => {
        server.setSecureContext(certificate);
        log.info({ file: files.cert }, 'the certificate was replaced');
      },
      (error: unknown) =>
        log.warn({ err: error, file: files.cert }, 'the certificate cannot be read; the old one stays'),
    );
  };
  for (const path of paths) watchFile(path, { interval: intervalMs, persistent: false }, reload);
  server.once('close', () => {
    for (const path of paths) unwatchFile(path, reload);
  });
}
