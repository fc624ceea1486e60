import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';

/** A provider of identities: its key set is a file. */
export interface Identity {
  readonly keySet: string;
  readonly issuer: string;
  /** A JWT for five minutes. */
  tokenOf(customer: string): Promise<string>;
}

/** Makes its keys, and the file of the public one in `directory`. */
export async function makeIdentity(directory: string): Promise<Identity> {
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
  const keySet = join(directory, 'jwks.json');
  await writeFile(keySet, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256' }] }));
  const issuer = 'https://id.example';
  return {
    keySet,
    issuer,
    tokenOf: (customer) =>
      new SignJWT({ customer_id: customer })
        .setProtectedHeader({ alg: 'ES256', kid: 'k' })
        .setIssuer(issuer)
        .setAudience('metald')
        .setExpirationTime('5m')
        .sign(privateKey),
  };
}
