import { join } from 'node:path';
import { isCustomerId } from '../api/metald/auth.ts';
import { makeToken } from '../api/metald/tokens.ts';
import { exists } from '../common/files.ts';
import { ConfigError } from '../daemon/config.ts';
import type { Config } from '../daemon/settings.ts';
import { CustomerTokenRows, type StoredCustomerToken } from '../store/customer-token-rows.ts';
import { openDatabase } from '../store/database.ts';

const msPerDay = 86_400_000;
const maxNameLength = 100;

/** Makes a token for a customer and prints it: the one time it can be seen. The daemon may be running. */
export async function createToken(
  config: Config,
  options: { readonly customer: string; readonly name: string; readonly days: number | null },
): Promise<void> {
  const { customer, name, days } = options;
  if (!isCustomerId(customer))
    throw new ConfigError('a customer id is 1 to 63 letters, digits, . - or _, a letter or digit first');
  if (name.length > maxNameLength || /\p{C}/u.test(name))
    throw new ConfigError(`a name has at most ${maxNameLength} printable characters`);
  const { id, token, hash } = makeToken();
  const now = Date.now();
  await withTokens(config, (rows) =>
    rows.insert({
      id,
      customer,
      name,
      hash,
      createdAt: new Date(now).toISOString(),
      expiresAt: days === null ? null : new Date(now + days * msPerDay).toISOString(),
      revokedAt: null,
    }),
  );
  console.log(token);
}

/** Prints one line for each token, of one customer when one is given. */
export async function listTokens(config: Config, customer: string | null): Promise<void> {
  const tokens = await withTokens(config, (rows) => rows.list(customer));
  for (const token of tokens) console.log(describe(token));
}

/** Revokes a token by its id, for good. A running daemon refuses it a second later. */
export async function revokeToken(config: Config, id: string): Promise<void> {
  const token = await withTokens(config, (rows) => rows.revoke(id, new Date().toISOString()));
  if (!token) throw new ConfigError(`there is no token ${id}; \`berth token list\` shows those there are`);
  console.log(describe(token));
}

function describe({ id, customer, name, createdAt, expiresAt, revokedAt }: StoredCustomerToken): string {
  const state = revokedAt !== null ? `revoked ${revokedAt}` : expiresAt !== null ? `until ${expiresAt}` : 'valid';
  return [id, customer, createdAt, state, name].join('  ').trimEnd();
}

async function withTokens<T>(config: Config, task: (rows: CustomerTokenRows) => Promise<T>): Promise<T> {
  if (!(await exists(config.home)))
    throw new ConfigError(`there is no data directory ${config.home}: start the daemon once, or set home`);
  const db = openDatabase(join(config.home, 'berth.db'));
  try {
    return await task(new CustomerTokenRows(db));
  } finally {
    db.close();
  }
}
