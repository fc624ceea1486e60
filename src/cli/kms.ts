import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import { closeServers } from '../agent/close-servers.ts';
import { consoleLog } from '../agent/log.ts';
import { parseAddress } from '../agent/run-config.ts';
import { listenTcp } from '../agent/sockets.ts';
import { parseTrust } from '../agent/trust-file.ts';
import { issueCollateral } from '../attest/simulated/collateral.ts';
import { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { TpmTools } from '../attest/tpm/tools.ts';
import { TpmSeal } from '../attest/tpm/tpm-seal.ts';
import type { Trust } from '../attest/verify/input.ts';
import { writeFileAtomic } from '../common/files.ts';
import { defaultPolicy, readPolicy } from '../kms/policy.ts';
import { rootId } from '../kms/root-id.ts';
import { RootStore } from '../kms/root-store.ts';
import { type PassphraseSealing, SealError, type Sealing } from '../kms/sealed.ts';
import { createKmsServer, createPublicKmsServer } from '../kms/server.ts';

/** How the root is sealed; neither means by the file's mode alone. */
interface SealFlags {
  readonly passphraseFile?: string;
  readonly tpm?: string;
}

export interface KmsServeFlags extends SealFlags {
  readonly dir: string;
  readonly listen: string;
  readonly public?: string;
  readonly name: readonly string[];
  readonly policy?: string;
  readonly tee?: string;
  readonly trust?: string;
}

export interface KmsBackupFlags extends SealFlags {
  readonly dir: string;
  readonly backupPassphraseFile: string;
}

export interface KmsResealFlags extends SealFlags {
  readonly dir: string;
  readonly toPassphraseFile?: string;
  readonly toTpm?: string;
}

/** The KMS, until SIGTERM or SIGINT. */
export async function kmsServe(flags: KmsServeFlags): Promise<void> {
  const log = consoleLog();
  const root = await new RootStore(flags.dir).loadOrCreate(await sealing(flags));
  const address = parseAddress(flags.listen);
  const options = {
    root,
    trust: await trusted(flags),
    policy: async () => (flags.policy === undefined ? defaultPolicy : readPolicy(flags.policy)),
    names: [...new Set(['localhost', ...flags.name])],
    log,
  };
  // A policy that cannot be read is a mistake to be told at once.
  await options.policy();
  const servers: Server[] = [createKmsServer(options)];
  const url = await listenTcp(servers[0]!, address.host, address.port);
  console.log(`root     ${rootId(root.caCertificate)}`);
  console.log(`kms      ${url.replace(/^http:/, 'https:')}`);
  if (flags.public !== undefined) {
    const server = createPublicKmsServer(options);
    servers.push(server);
    const { host, port } = parseAddress(flags.public);
    console.log(`public   ${await listenTcp(server, host, port)}`);
  }
  await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  await closeServers(servers);
}

/** Writes the root, under a passphrase of its own, to a file. */
export async function kmsBackup(file: string, flags: KmsBackupFlags): Promise<void> {
  const backup = await new RootStore(flags.dir).backup(
    await sealing(flags),
    await passphrase(flags.backupPassphraseFile),
  );
  await writeFileAtomic(file, backup, 0o600);
}

/** Puts a backup in place where there is no root yet. */
export async function kmsRestore(file: string, flags: KmsBackupFlags): Promise<void> {
  const { passphrase: secret } = await passphrase(flags.backupPassphraseFile);
  const root = await new RootStore(flags.dir).restore(await readFile(file, 'utf8'), secret, await sealing(flags));
  console.log(`root     ${rootId(root.caCertificate)}`);
}

/** Seals the root another way. */
export async function kmsReseal(flags: KmsResealFlags): Promise<void> {
  const to = await sealing({
    ...(flags.toPassphraseFile === undefined ? {} : { passphraseFile: flags.toPassphraseFile }),
    ...(flags.toTpm === undefined ? {} : { tpm: flags.toTpm }),
  });
  await new RootStore(flags.dir).reseal(await sealing(flags), to);
}

async function sealing({ passphraseFile, tpm }: SealFlags): Promise<Sealing> {
  if (passphraseFile !== undefined && tpm !== undefined) throw new SealError('either a passphrase or a TPM, not both');
  if (passphraseFile !== undefined) return passphrase(passphraseFile);
  if (tpm !== undefined) return { kind: 'tpm', tpm: new TpmSeal(new TpmTools(tpm)) };
  return { kind: 'none' };
}

/** The first line of a file: passphrases on a command line can be read by everybody on the machine. */
async function passphrase(file: string): Promise<PassphraseSealing> {
  const [line = ''] = (await readFile(file, 'utf8')).split('\n');
  if (line === '') throw new SealError('the passphrase file is empty');
  return { kind: 'passphrase', passphrase: line };
}

/** Whose quotes are believed: a simulated platform of this machine, or whom a file names. */
async function trusted({ tee, trust }: KmsServeFlags): Promise<() => Trust> {
  if (trust !== undefined) {
    const fixed = parseTrust(await readFile(trust, 'utf8'));
    return () => fixed;
  }
  if (tee === undefined) throw new SealError('--tee or --trust must say whose quotes are believed');
  const platform = await SimulatedPlatform.open(tee);
  return () => ({ root: platform.root, collateral: issueCollateral(platform) });
}
