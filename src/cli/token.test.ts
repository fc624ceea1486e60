import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { TokenVerifier } from '../api/metald/tokens.ts';
import { ConfigError, loadConfig } from '../daemon/config.ts';
import type { Config } from '../daemon/settings.ts';
import { CustomerTokenRows } from '../store/customer-token-rows.ts';
import { openDatabase } from '../store/database.ts';
import { createToken, listTokens, revokeToken } from './token.ts';

describe('berth token', () => {
  let config: Config;
  let printed: string[];

  beforeEach(async () => {
    const home = await mkdtemp(join(tmpdir(), 'berth-token-'));
    config = loadConfig({ file: null, env: {}, flags: { home } });
    printed = [];
    mock.method(console, 'log', (line: string) => printed.push(line));
  });
  afterEach(async () => {
    mock.restoreAll();
    await rm(config.home, { recursive: true });
  });

  /** Whose the token is, as a daemon on the same data directory sees it. */
  async function customerOf(token: string): Promise<string | null> {
    const db = openDatabase(join(config.home, 'berth.db'));
    try {
      return await new TokenVerifier(new CustomerTokenRows(db), Date.now).verify(token);
    } finally {
      db.close();
    }
  }

  it('makes tokens that are good until they are revoked, and keeps only their hashes', async () => {
    await createToken(config, { customer: 'acme', name: 'ci', days: 3 });
    await createToken(config, { customer: 'other', name: '', days: null });
    const [token = '', other = ''] = printed;
    assert.deepEqual([await customerOf(token), await customerOf(other)], ['acme', 'other']);
    const stored = await readFile(join(config.home, 'berth.db'), 'latin1');
    assert.ok(!stored.includes(token.slice(20)), 'the secret is not in the store');

    printed = [];
    await listTokens(config, null);
    const [mine = '', theirs = ''] = printed;
    assert.match(mine, /^[0-9a-f]{16} {2}acme {2}\S+ {2}until \S+ {2}ci$/);
    assert.match(theirs, /^[0-9a-f]{16} {2}other {2}\S+ {2}valid$/);
    printed = [];
    await listTokens(config, 'other');
    assert.deepEqual(printed, [theirs]);

    await revokeToken(config, mine.split(' ')[0] ?? '');
    assert.match(printed.at(-1) ?? '', / {2}revoked \S+ {2}ci$/);
    assert.deepEqual([await customerOf(token), await customerOf(other)], [null, 'other']);
  });

  it('refuses customers that are no ids, names that are no texts, and tokens there are none of', async () => {
    for (const [customer, name] of [
      ['a,b', ''],
      ['', ''],
      ['acme', 'x'.repeat(101)],
      ['acme', 'a\nb'],
    ] as const)
      await assert.rejects(createToken(config, { customer, name, days: null }), ConfigError);
    await assert.rejects(revokeToken(config, 'none'), /there is no token none/);
    await assert.rejects(listTokens({ ...config, home: '/nonexistent' }, null), /there is no data directory/);
  });
});
