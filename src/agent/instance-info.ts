import { randomBytes } from 'node:crypto';
import { type AppCompose, defaultAppId, ID_BYTES, instanceId } from '../attest/app-compose.ts';
import { BerthError } from '../common/errors.ts';
import { writeFileAtomic } from '../common/files.ts';
import { readIfThere } from '../common/read-if-there.ts';

/** Who a VM is, 20 bytes each; the instance id is empty when the app wants none. */
export interface Identity {
  readonly appId: Buffer;
  readonly instanceId: Buffer;
}

/**
 * The identity of a VM, from the file it is kept in (`.instance_info`). The host begins the file with the app id; seed and
 * instance id are added here, once.
 * @throws BerthError invalid_argument when the file is damaged
 */
export async function readIdentity(path: string, compose: AppCompose): Promise<Identity> {
  const file = parse(readIfThere(path) ?? '{}');
  const appId = readId(file, 'app_id') ?? defaultAppId(compose.hash);
  if (compose.noInstanceId) return { appId, instanceId: Buffer.alloc(0) };
  const known = readId(file, 'instance_id');
  if (known !== null) return { appId, instanceId: known };
  const seed = readId(file, 'instance_id_seed') ?? randomBytes(ID_BYTES);
  const made = instanceId(seed, appId);
  const ids = { instance_id_seed: seed, instance_id: made, app_id: appId };
  const hex = Object.entries(ids).map(([name, id]) => [name, id.toString('hex')]);
  await writeFileAtomic(path, `${JSON.stringify(Object.fromEntries(hex))}\n`);
  return { appId, instanceId: made };
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(text)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    throw new BerthError('invalid_argument', { reason: 'the file with the instance is not JSON' }, error);
  }
}

function readId(file: Readonly<Record<string, unknown>>, name: string): Buffer | null {
  const value = file[name];
  if (value === undefined || value === null || value === '') return null;
  const digits = typeof value === 'string' ? value.replace(/^0x/, '') : '';
  if (!/^[0-9a-f]+$/i.test(digits) || digits.length !== 2 * ID_BYTES)
    throw new BerthError('invalid_argument', { reason: `${name} of the instance is not ${ID_BYTES} bytes` });
  return Buffer.from(digits, 'hex');
}
