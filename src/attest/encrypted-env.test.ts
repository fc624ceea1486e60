import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { encryptEnvVars } from '@phala/dstack-sdk/encrypt-env-vars';
import fc from 'fast-check';
import { runCommand } from '../common/command.ts';
import { BerthError } from '../common/errors.ts';
import { decryptEnv, envPublicKey, formatEnvFile, parseEnv } from './encrypted-env.ts';

const secret = Buffer.alloc(32, 7);
const encrypt = async (env: { key: string; value: string }[]): Promise<Buffer> =>
  Buffer.from(await encryptEnvVars(env, envPublicKey(secret).toString('hex')), 'hex');
const invalid = (error: unknown): boolean => error instanceof BerthError && error.code === 'invalid_argument';

test('what the published client encrypts is read, by its key alone and unchanged', async () => {
  const env = [
    { key: 'A', value: 'ä "quoted"\n$HOME `x` \\' },
    { key: 'NOT_ALLOWED', value: 'x' },
    { key: 'EMPTY', value: '' },
  ];
  const ciphertext = await encrypt(env);
  const { variables, skipped } = parseEnv(decryptEnv(secret, ciphertext), ['A', 'EMPTY', 'OTHER']);
  assert.deepEqual(
    [...variables],
    [
      ['A', env[0]!.value],
      ['EMPTY', ''],
    ],
  );
  assert.deepEqual(skipped, ['NOT_ALLOWED']);
  assert.throws(() => decryptEnv(Buffer.alloc(32, 8), ciphertext), invalid);
  fc.assert(
    fc.property(fc.nat(ciphertext.length * 8 - 1), (bit) => {
      // The highest bit of an X25519 public key is not part of it.
      if (bit === 31 * 8 + 7) return;
      const changed = Buffer.from(ciphertext);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      assert.throws(() => decryptEnv(secret, changed), invalid);
    }),
  );
  for (const length of [0, 32, 59]) assert.throws(() => decryptEnv(secret, ciphertext.subarray(0, length)), invalid);
  // A sender's key that makes the shared secret zero for every receiver.
  assert.throws(() => decryptEnv(secret, Buffer.concat([Buffer.alloc(32), ciphertext.subarray(32)])), invalid);
  assert.throws(() => decryptEnv(secret, randomBytes(3 * 1024 * 1024)), invalid);
});

test('what no environment can hold is refused', () => {
  const parse = (env: unknown, allowed = ['A', '1A', 'A B', '']): unknown =>
    parseEnv(Buffer.from(JSON.stringify({ env })), allowed);
  for (const env of [
    [{ key: '1A', value: '' }],
    [{ key: 'A B', value: '' }],
    [{ key: '', value: '' }],
    [{ key: 'A', value: 'x\0' }],
    [{ key: 'A', value: 'x'.repeat(128 * 1024 + 1) }],
    [{ key: 'A', value: 1 }],
    [{ key: 'A' }],
    [null],
    'A=1',
    Array.from({ length: 1025 }, () => ({ key: 'B', value: '' })),
    Array.from({ length: 9 }, () => ({ key: 'A', value: 'x'.repeat(128 * 1024) })),
  ])
    assert.throws(() => parse(env), invalid, JSON.stringify(env).slice(0, 60));
  for (const bad of ['', 'null', '[]', '{"env":{}}']) assert.throws(() => parseEnv(Buffer.from(bad), []), invalid, bad);
});

test('an environment file gives a shell the values that were put in', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'berth-env-'));
  try {
    // Line breaks are for systemd and Docker to read back; a shell leaves them as they are written.
    const values = ['plain', '', 'two words', '"', "'", '$HOME', '`id`', '\\', 'a=b', 'ünï', '#', '!x', '~', '*'];
    const variables = new Map(values.map((value, index) => [`V${index}`, value]));
    await writeFile(join(directory, 'env'), formatEnvFile(variables));
    const print = values.map((_, index) => `printf '%s\\n' "$V${index}"`).join('; ');
    const { stdout } = await runCommand('sh', ['-c', `. ./env; ${print}`], { cwd: directory });
    assert.deepEqual(stdout.split('\n').slice(0, -1), values);
    assert.equal(formatEnvFile(new Map([['A', 'x\ny']])), 'A="x\\ny"\n');
  } finally {
    await rm(directory, { recursive: true });
  }
});
