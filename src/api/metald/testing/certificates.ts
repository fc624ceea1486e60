import { runCommand } from '../../../common/command.ts';
import type { CertificateFiles } from '../certificate.ts';

/** Writes a self-signed certificate for 127.0.0.1, good for a day, and its key. `name` is its subject's. */
export async function makeCertificate({ cert, key }: CertificateFiles, name: string): Promise<void> {
  const request = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=${name}`;
  const more = ['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert];
  await runCommand('openssl', [...request.split(' '), ...more]);
}
