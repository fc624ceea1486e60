import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { unixFetch } from '../src/agent/testing/unix-fetch.ts';
import { eventually } from './support/eventually.ts';
import { type RunningBerth, runBerth, startBerth } from './support/serve.ts';

describe('berth agent dev and berth verify', () => {
  let home: string;
  let agent: RunningBerth;
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'berth-agent-'));
    agent = startBerth(['agent', 'dev', '--dir', join(home, 'dev')], {});
    await eventually('the agent says where it is', async () => agent.stdout().includes('trust '));
  });
  after(async () => {
    await agent.stop();
    await rm(home, { recursive: true, force: true });
  });

  const at = (name: string) => join(home, 'dev', name);
  const verify = (...args: readonly string[]) => runBerth(['verify', ...args], {});

  async function keep(name: string, method: string): Promise<string> {
    const reply = await unixFetch(at('dstack.sock'), `/${method}?report_data=1234`);
    const path = join(home, name);
    await writeFile(path, reply.text);
    return path;
  }

  test('says where everything is', () => {
    for (const name of ['dstack.sock', 'tappd.sock', 'guest.sock', 'tee-trust.json'])
      assert.match(agent.stdout(), new RegExp(` ${at(name)}\n`));
    assert.match(agent.stdout(), /simulated TEE/);
    assert.match(agent.stdout(), /^http +http:\/\/127\.0\.0\.1:\d+$/m);
  });

  test('an attestation and a quote are verified, and every check is told', async () => {
    for (const method of ['Attest', 'GetQuote']) {
      const file = await keep(`${method}.json`, method);
      const expectations = ['--report-data', '1234', '--app-compose', at('app-compose.json')];
      const { code, stdout, stderr } = await verify(file, '--trust', at('tee-trust.json'), ...expectations);
      assert.equal(code, 0, stdout + stderr);
      assert.match(stdout, /^ok {5}quote \(simulated\): /m);
      assert.match(stdout, /^The TEE is simulated/m);
      assert.match(stdout, /\nvalid\n$/);
    }
  });

  test('what is wrong is named, and the exit code says so', async () => {
    const file = await keep('wrong.json', 'Attest');
    const other = '00'.repeat(32);
    const wrong = await verify(
      file,
      '--trust',
      at('tee-trust.json'),
      '--compose-hash',
      other,
      '--report-data',
      '99',
      '--rtmr1',
      '00'.repeat(48),
      '--json',
    );
    assert.equal(wrong.code, 1);
    const report = JSON.parse(wrong.stdout) as { is_valid: boolean; checks: { name: string; ok: boolean }[] };
    assert.equal(report.is_valid, false);
    assert.deepEqual(
      report.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['report-data', 'compose-hash', 'measurements'],
    );
    const untrusted = await verify(file);
    assert.equal(untrusted.code, 1);
    assert.match(untrusted.stdout, /^FAILED root \(simulated\): /m);
  });

  test('what the prover writes beside its attestation is not expected of it', async () => {
    const file = await keep('boasting.json', 'Attest');
    const reply = JSON.parse(await readFile(file, 'utf8')) as object;
    await writeFile(file, JSON.stringify({ ...reply, report_data: '1234', app_compose: 'none', app_id: '00' }));
    const { code, stdout } = await verify(file, '--trust', at('tee-trust.json'));
    assert.equal(code, 0, stdout);
    assert.doesNotMatch(stdout, /^(?:ok|FAILED) +(?:report-data|compose-hash|app-id)\b/m);
    const empty = await verify(file, '--trust', at('tee-trust.json'), '--app-id', '');
    assert.deepEqual([empty.code, empty.stdout], [1, '']);
    assert.match(empty.stderr, /^berth: app_id: it is empty.*\n$/);
  });

  test('what cannot be read is one line', async () => {
    const file = join(home, 'broken.json');
    await writeFile(file, '{"quote":"xy"}');
    const { code, stderr } = await verify(file);
    assert.equal(code, 1);
    assert.match(stderr, /^berth: quote: not hexadecimal.*\n$/);
  });

  test('POST /verify', async () => {
    const server = startBerth(['verify', '--listen', '127.0.0.1:0', '--trust', at('tee-trust.json')], {});
    try {
      await eventually('the verifier says where it is', async () => server.stdout().includes('/verify\n'));
      const url = /POST (\S+)/.exec(server.stdout())![1]!;
      const body = await readFile(await keep('posted.json', 'Attest'), 'utf8');
      const good = await fetch(url, { method: 'POST', body });
      const report = (await good.json()) as { is_valid: boolean; simulated: boolean; claims: { app_id: string } };
      assert.deepEqual([good.status, report.is_valid, report.simulated], [200, true, true]);
      const { app_id: appId } = (await unixFetch(at('dstack.sock'), '/Info')).json();
      assert.equal(report.claims.app_id, appId);
      const bad = await fetch(url, { method: 'POST', body: '{}' });
      assert.equal(bad.status, 400);
      assert.match(((await bad.json()) as { error: string }).error, /neither attestation nor quote/);
    } finally {
      assert.equal(await server.stop(), 0);
    }
  });

  test('a second one in the directory is refused in one line', async () => {
    const { code, stderr } = await runBerth(['agent', 'dev', '--dir', join(home, 'dev')], {});
    assert.equal(code, 1);
    assert.match(stderr, /^berth: something listens at .*\n$/);
  });

  test('fixed keys and a fixed app are the same anywhere', async () => {
    const keys = await Promise.all(
      ['one', 'two'].map(async (name) => {
        const dir = join(home, name);
        const fixed = ['--app-keys', join(home, 'keys.json'), '--app-compose', at('app-compose.json')];
        await writeFile(join(home, 'keys.json'), JSON.stringify(fixedKeys));
        const running = startBerth(['agent', 'dev', '--dir', dir, ...fixed], {});
        try {
          await eventually('the agent says where it is', async () => running.stdout().includes('trust '));
          return (await unixFetch(join(dir, 'dstack.sock'), '/GetKey?path=a')).text;
        } finally {
          assert.equal(await running.stop(), 0);
        }
      }),
    );
    assert.equal(keys[0], keys[1]);
  });
});

/** A set of keys as a KMS gives them, of an app of this test. */
const fixedKeys = {
  disk_crypt_key: '01'.repeat(32),
  env_crypt_key: '',
  k256_key: '02'.repeat(32),
  k256_signature: '03'.repeat(65),
  gateway_app_id: '',
  ca_cert: '',
  key_provider: { Kms: { url: '', pubkey: 'ab', tmp_ca_key: '', tmp_ca_cert: '' } },
};
