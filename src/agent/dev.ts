import { mkdir, readFile, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { type AppCompose, defaultAppId, ID_BYTES, instanceId, parseAppCompose } from '../attest/app-compose.ts';
import { parseAppKeys, serializeAppKeys } from '../attest/app-keys.ts';
import { Attestor } from '../attest/attest.ts';
import { measureBoot } from '../attest/boot-measurements.ts';
import { sha256, sha384 } from '../attest/hash.ts';
import { mrConfigIdV1 } from '../attest/measurements.ts';
import { issueCollateral } from '../attest/simulated/collateral.ts';
import { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { SimulatedTdxQuoter } from '../attest/simulated/tdx-quoter.ts';
import { certificateLabel, toPem } from '../attest/x509/pem.ts';
import { BerthError } from '../common/errors.ts';
import { writeFileAtomic } from '../common/files.ts';
import { readIfThere } from '../common/read-if-there.ts';
import { RootStore } from '../kms/root-store.ts';
import { assembleAgent } from './assemble.ts';
import { closeServers } from './close-servers.ts';
import { devAppKeys, devSigner } from './dev-kms.ts';
import type { AgentLog } from './log.ts';
import { pccsRoute } from './pccs-route.ts';
import { programRoute } from './program-route.ts';
import { agentServers, internalRoute } from './servers.ts';
import { assertFree, listenTcp, listenUnix } from './sockets.ts';
import { simulatedSeed } from './tee.ts';
import { serializeTrust } from './trust-file.ts';
import { verifyRoute } from './verify-route.ts';
import { sealedAppKeys } from './vm-keys.ts';

export interface DevOptions {
  /** Everything the agent keeps, its sockets too. */
  readonly directory: string;
  /**
   * Fixed keys (`.appkeys.json`). Default: those of a KMS in the directory, another set for each app; of this machine for
   * an app whose key provider is `local`.
   */
  readonly appKeysFile: string | null;
  /** Default: app-compose.json in the directory, which is made when it is not there. */
  readonly appComposeFile: string | null;
  /** Keys of the simulated TEE; agents that are to trust each other share it. Default: the directory. */
  readonly teeDirectory: string | null;
  /** Address of the HTTP port. */
  readonly http: { readonly host: string; readonly port: number };
  readonly dockerSocket: string;
  readonly log: AgentLog;
}

/** Where a running agent is reached. */
export interface DevAgent {
  readonly dstackSocket: string;
  readonly tappdSocket: string;
  readonly guestSocket: string;
  readonly httpUrl: string;
  /** Whom verifiers of this agent's quotes are to trust; for `berth verify --trust`. */
  readonly trustFile: string;
  readonly appId: Buffer;
  stop(): Promise<void>;
}

/** File names in the directory. */
const files = {
  compose: 'app-compose.json',
  ca: 'ca.pem',
  keys: 'app-keys.json',
  events: 'runtime_events.log',
  trust: 'tee-trust.json',
  http: 'http-url',
  dstack: 'dstack.sock',
  tappd: 'tappd.sock',
  guest: 'guest.sock',
} as const;

const defaultCompose = {
  manifest_version: 2,
  name: 'dev',
  runner: 'docker-compose',
  docker_compose_file: 'services: {}\n',
  public_logs: true,
  public_sysinfo: true,
  public_tcbinfo: true,
};

/**
 * The agent on a developer's machine, without a VM: real keys, certificates and signatures, and quotes of a simulated TEE.
 * Each start counts as a boot: the event log begins anew, keys and ids stay.
 */
export async function startDevAgent(options: DevOptions): Promise<DevAgent> {
  const { directory, log } = options;
  const path = (name: string) => join(directory, name);
  // Before anything is touched: another agent's event log is in this directory too.
  await assertFree(path(files.dstack));
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const compose = await readCompose(options.appComposeFile, path(files.compose));
  if (compose.keyProvider === 'tpm' && options.appKeysFile === null)
    throw new BerthError('invalid_argument', { reason: 'laptop mode has no TPM to keep keys: key_provider is tpm' });
  const kms = await new RootStore(directory).loadOrCreate({ kind: 'none' });
  const appId = defaultAppId(compose.hash);
  // As random as the root, and the same at each start.
  const seed = sha256(kms.k256Key, 'laptop-instance').subarray(0, ID_BYTES);
  const instance = compose.noInstanceId ? Buffer.alloc(0) : instanceId(seed, appId);
  const fixedKeys = options.appKeysFile === null ? null : parseAppKeys(await readFile(options.appKeysFile, 'utf8'));
  const platform = await SimulatedPlatform.open(options.teeDirectory ?? directory);
  const root = toPem(platform.root, certificateLabel);
  await writeFileAtomic(path(files.trust), serializeTrust(root, issueCollateral(platform)));

  await rm(path(files.events), { force: true });
  const vmConfig = JSON.stringify({ spec_version: 1, image: 'laptop', os_image_hash: '' });
  const quoter = new SimulatedTdxQuoter(platform, { ...nothingBooted(), mrConfigId: mrConfigIdV1(compose.hash) });
  const attestor = await Attestor.open({ quoter, eventLogPath: path(files.events), vmConfig });
  const newKeys = async () => {
    if (compose.keyProvider !== 'local') return devAppKeys(kms, appId, instance);
    const attest = (reportData: Buffer) => attestor.attest(reportData, { stripped: true });
    return sealedAppKeys('local', compose, await simulatedSeed(platform, quoter), attest);
  };
  const agent = await assembleAgent({
    compose,
    appId,
    instanceId: instance,
    keys: async () => fixedKeys ?? (await newKeys()),
    // Fixed keys from some KMS have its signature, but nobody here to sign certificates for it.
    signer: async ({ keyProvider }, appInfo) => (keyProvider.name === 'kms' ? devSigner(kms, appId, appInfo) : null),
    attestor,
    vmConfig,
    dockerSocket: options.dockerSocket,
    dataDisks: ['/'],
    shutDown: null,
    log,
  });
  // With fixed keys of another KMS its root is not where the certificates end that are signed here.
  const { keyProvider, caCert } = agent.keys;
  const authority = keyProvider.name === 'kms' ? toPem(kms.caCertificate, certificateLabel) : caCert;
  await writeFileAtomic(path(files.ca), authority);
  // For tests elsewhere that are to see the same keys.
  await writeFileAtomic(path(files.keys), serializeAppKeys(agent.keys), 0o600);

  const make = agentServers(agent);
  const sockets = [
    [make.internal(), path(files.dstack)],
    [make.tappd(), path(files.tappd)],
    [make.guestApi(), path(files.guest)],
  ] as const;
  const http = make.external([
    pccsRoute(() => issueCollateral(platform)),
    verifyRoute(() => ({ root: platform.root, collateral: issueCollateral(platform) })),
    // Clients that are given a URL for a simulator call the methods of dstack.sock there.
    programRoute(internalRoute(agent)),
  ]);
  const servers: Server[] = [...sockets.map(([server]) => server), http];
  try {
    for (const [server, socket] of sockets) await listenUnix(server, socket, 0o600);
    const httpUrl = await listenTcp(http, options.http.host, options.http.port);
    await writeFileAtomic(path(files.http), `${httpUrl}\n`);
    return {
      dstackSocket: path(files.dstack),
      tappdSocket: path(files.tappd),
      guestSocket: path(files.guest),
      httpUrl,
      trustFile: path(files.trust),
      appId,
      stop: () => closeServers(servers),
    };
  } catch (error) {
    await closeServers(servers);
    throw error;
  }
}

async function readCompose(given: string | null, own: string): Promise<AppCompose> {
  const text = given === null ? readIfThere(own) : await readFile(given, 'utf8');
  if (text !== null) return parseAppCompose(text);
  const made = `${JSON.stringify(defaultCompose, null, 2)}\n`;
  await writeFileAtomic(own, made);
  return parseAppCompose(made);
}

/** Measurements that say what is true: no kernel was booted for this. */
function nothingBooted(): ReturnType<typeof measureBoot> {
  const nothing = sha384('');
  return measureBoot({
    firmware: nothing,
    kernel: nothing,
    initramfs: nothing,
    commandLine: '',
    rootfs: nothing,
    hardware: 'laptop',
  });
}
