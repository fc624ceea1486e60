import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { ID_BYTES } from '../attest/app-compose.ts';
import { BerthError } from '../common/errors.ts';

const hex = (bytes: number) =>
  z
    .string()
    .transform((text) => text.replace(/^0x/, '').toLowerCase())
    .pipe(z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`), `not ${bytes} bytes of hex`));

const schema = z.strictObject({
  /** Apps by id, with the hashes of the app-compose.json files that they may run. */
  apps: z
    .array(z.strictObject({ appId: hex(ID_BYTES), composeHashes: z.array(hex(32)).min(1) }))
    .max(100_000)
    .default([]),
  /** Also allow apps whose id is the beginning of their own compose hash. */
  allowSelfNamed: z.boolean().default(true),
  /** When there are any: the operating system images that may ask, SHA-256(MRTD ‖ RTMR1 ‖ RTMR2). */
  osImages: z.array(hex(32)).default([]),
});

/** Who may have keys. */
export type Policy = z.output<typeof schema>;

/** Who asks, as the attestation says: hex. */
export interface Applicant {
  readonly appId: string;
  readonly composeHash: string;
  readonly osImage: string;
}

export const defaultPolicy: Policy = schema.parse({});

/** Reads a policy file. Unknown fields are refused: a misspelt rule must not be a rule that is not there. */
export async function readPolicy(path: string): Promise<Policy> {
  const parsed = schema.safeParse(JSON.parse(await readFile(path, 'utf8')));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new Error(`the policy is not one: ${issue?.path.join('.')} ${issue?.message}`);
}

/** @throws BerthError permission_denied with what is not allowed as its cause */
export function authorize(policy: Policy, { appId, composeHash, osImage }: Applicant): void {
  const refuse = (reason: string): never => {
    throw new BerthError('permission_denied', {}, new Error(reason));
  };
  if (policy.osImages.length > 0 && !policy.osImages.includes(osImage)) refuse(`image ${osImage} is not allowed`);
  const rules = policy.apps.filter((app) => app.appId === appId);
  if (rules.some(({ composeHashes }) => composeHashes.includes(composeHash))) return;
  if (rules.length > 0) refuse(`app ${appId} may not run compose hash ${composeHash}`);
  if (!policy.allowSelfNamed || appId !== composeHash.slice(0, ID_BYTES * 2)) refuse(`app ${appId} is not allowed`);
}
