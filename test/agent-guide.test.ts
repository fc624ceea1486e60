/** The examples of docs/guest-agent.md, as a reader would paste them into a new directory. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { guideExample } from '../src/agent/testing/guide.ts';
import { runCommand } from '../src/common/command.ts';
import { eventually } from './support/eventually.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

describe('the guide to the guest agent', () => {
  let home: string;
  let agent: ChildProcess;
  let environment: NodeJS.ProcessEnv;

  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'berth-guide-'));
    // The reader's checkout and packages, whose directory this is not.
    for (const name of ['node_modules', 'scripts']) await symlink(join(root, name), join(home, name));
    await mkdir(join(home, 'bin'));
    await symlink(join(root, 'bin', 'berth'), join(home, 'bin', 'berth'));
    const path = [join(root, 'node_modules', '.bin'), process.env.PATH].join(delimiter);
    environment = { ...process.env, HOME: home, PATH: path };
    agent = spawn('sh', ['-c', `exec ${await guideExample('bin/berth agent dev --dir ~/dstack-dev')}`], {
      cwd: home,
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    agent.stdout!.setEncoding('utf8').on('data', (piece: string) => {
      said += piece;
    });
    await eventually('the agent says where it is', async () => {
      if (agent.exitCode !== null) throw new Error(`the agent ended (${agent.exitCode})`);
      return said.includes('trust ');
    });
  });
  after(async () => {
    const ended = once(agent, 'exit');
    agent.kill();
    await ended;
    await rm(home, { recursive: true, force: true });
  });

  /** What a shell prints that is given the text. */
  async function shell(script: string): Promise<string> {
    const { stdout } = await runCommand('sh', ['-euc', script], { cwd: home, env: environment });
    return stdout;
  }

  async function module(name: string, content: string): Promise<string> {
    await writeFile(join(home, name), content);
    return shell(`node ${name}`);
  }

  const keyByCurl = async (path: string) =>
    (
      JSON.parse(
        await shell(`curl -sS --unix-socket ~/dstack-dev/dstack.sock 'http://dstack/GetKey?path=${path}'`),
      ) as {
        key: string;
      }
    ).key;

  test('every file of the table is there', async () => {
    const names = (await guideTable()).flatMap((row) => [...row.split('|')[1]!.matchAll(/`([^`]+)`/g)]);
    assert.equal(names.length, 9);
    for (const [, name] of names) await stat(join(home, 'dstack-dev', name!));
  });

  test('a program with the published SDK', async () => {
    const program = await guideExample("getKey('wallet/ethereum')");
    assert.equal(await module('app.mjs', program), `${await keyByCurl('wallet/ethereum')}\n`);
  });

  test('a program that names no socket', async () => {
    const program = await guideExample("getKey('wallet/ethereum')");
    const unnamed = program.replace(/new DstackClient\(.*\)/, 'new DstackClient()');
    assert.notEqual(unnamed, program);
    await writeFile(join(home, 'app.mjs'), unnamed);
    const printed = await shell(await guideExample('DSTACK_SIMULATOR_ENDPOINT'));
    assert.equal(printed, `${await keyByCurl('wallet/ethereum')}\n`);
  });

  test('curl', async () => {
    const [key, quote] = (await guideExample('curl --unix-socket ~/dstack-dev/dstack.sock http://dstack/GetKey'))
      .trim()
      .split('\n');
    const { signature_chain: chain } = JSON.parse(await shell(key!)) as { signature_chain: string[] };
    assert.deepEqual(
      chain.map(({ length }) => length),
      [130, 130],
    );
    const { report_data: data } = JSON.parse(await shell(quote!)) as { report_data: string };
    assert.equal(data, '1234'.padEnd(128, '0'));
  });

  test('nothing but Python', async () => {
    await writeFile(join(home, 'app.py'), await guideExample('import http.client'));
    assert.equal(await shell('python3 app.py'), `${await keyByCurl('wallet')}\n`);
  });

  test('checking a quote', async () => {
    assert.match(
      await shell(await guideExample('bin/berth verify attestation.json')),
      /^ok +compose-hash .*\nvalid\n$/ms,
    );
  });

  test("checking a quote with somebody else's verifier", async () => {
    assert.equal(await module('check.mjs', await guideExample('getCollateral')), 'UpToDate\n');
  });
});

/** Rows of the table of files. */
async function guideTable(): Promise<string[]> {
  const lines = (await readFile(join(root, 'docs', 'guest-agent.md'), 'utf8')).split('\n');
  return lines.filter((line) => line.startsWith('| `'));
}
