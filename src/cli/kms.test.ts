import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { defaultAppId, instanceId } from '../attest/app-compose.ts';
import { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { attestedVm } from '../attest/testing/attested-vm.ts';
import { startSwtpm } from '../attest/testing/swtpm.ts';
import { appSecrets } from '../kms/app-secrets.ts';
import { requestAppKeys } from '../kms/client.ts';
import { rootId } from '../kms/root-id.ts';
import { RootStore } from '../kms/root-store.ts';
import { kmsBackup, kmsReseal, kmsRestore } from './kms.ts';

const main = join(import.meta.dirname, 'main.ts');

test('a root is backed up, restored into a TPM, sealed again and served: the keys stay the same', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'berth-kms-cli-'));
  await using tpm = await startSwtpm();
  const path = (name: string): string => join(directory, name);
  const sealed = (): Promise<string> => readFile(path('b/kms-root.json'), 'utf8');
  try {
    await writeFile(path('passphrase'), 'correct horse\n');
    await writeFile(path('wrong'), 'incorrect\n');
    const root = await new RootStore(path('a')).create({ kind: 'none' });
    await kmsBackup(path('backup'), { dir: path('a'), backupPassphraseFile: path('passphrase') });
    const restore = (file: string): Promise<void> =>
      kmsRestore(path('backup'), { dir: path('b'), backupPassphraseFile: path(file), tpm: tpm.tcti });
    await assert.rejects(restore('wrong'), /passphrase is wrong/);
    await restore('passphrase');
    assert.match(await sealed(), /"sealing": "tpm"/);
    await assert.rejects(kmsReseal({ dir: path('b') }), /sealed by a TPM/);
    await kmsReseal({ dir: path('b'), tpm: tpm.tcti, toPassphraseFile: path('passphrase') });
    assert.match(await sealed(), /"sealing": "passphrase"/);

    const platform = await SimulatedPlatform.open(path('tee'));
    await using vm = await attestedVm({ platform });
    const attest = (reportData: Buffer): Promise<Buffer> => vm.attestor.attest(reportData, { stripped: true });
    const keys = await withKms(
      ['--dir', path('b'), '--passphrase-file', path('passphrase'), '--tee', path('tee')],
      (url) => requestAppKeys({ url, pinnedRoot: rootId(root.caCertificate), vmConfig: '', attest }),
    );
    const { compose } = vm;
    const appId = defaultAppId(compose.hash);
    const expected = await appSecrets(root, appId, instanceId(Buffer.alloc(20, 5), appId));
    assert.deepEqual(keys.k256Key, expected.k256Key);
    assert.deepEqual(keys.diskCryptKey, expected.diskCryptKey);
  } finally {
    await rm(directory, { recursive: true });
  }
});

/** Runs a KMS and gives its URL to `run`. */
async function withKms<T>(args: readonly string[], run: (url: string) => Promise<T>): Promise<T> {
  const child = spawn(process.execPath, [main, 'kms', 'serve', '--listen', '127.0.0.1:0', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const [, url] = /^kms +(https:\S+)$/.exec(line) ?? [];
      if (url !== undefined) return await run(url);
    }
    throw new Error('the KMS did not start');
  } finally {
    child.kill();
    await exited;
  }
}
