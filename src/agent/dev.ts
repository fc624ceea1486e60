import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { type AppCompose, defaultAppId, instanceId, parseAppCompose } from '../attest/app-compose.ts';
import { type AppKeys, appKeysFromSeed, parseAppKeys } from '../attest/app-keys.ts';
import { Attestor } from '../attest/attest.ts';
import { measureBoot } from '../attest/boot-measurements.ts';
import { sha256, sha384 } from '../attest/hash.ts';
import { mrConfigIdV1 } from '../attest/measurements.ts';
import { issueCollateral } from '../attest/simulated/collateral.ts';
import { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { SimulatedTdxQuoter } from '../attest/simulated/tdx-quoter.ts';
import { certificateLabel, toPem } from '../attest/x509/pem.ts';
import { writeFileAtomic } from '../common/files.ts';
import { assembleAgent } from './assemble.ts';
import { closeServers } from './close-servers.ts';
import type { AgentLog } from './log.ts';
import { pccsRoute } from './pccs-route.ts';
import { readIfThere } from './read-if-there.ts';
import { agentServers, internalRoute } from './servers.ts';
import { listenTcp, listenUnix } from './sockets.ts';
import { serializeTrust } from './trust-file.ts';
import { verifyRoute } from './verify-route.ts';

export interface DevOptions {
  /** Everything the agent keeps, its sockets too. */
  readonly directory: string;
  /** Fixed keys (`.appkeys.json`); default: keys made once for this directory, another set for each app. */
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
  seed: 'dev-seed',
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
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const compose = await readCompose(options.appComposeFile, path(files.compose));
  const seed = await readSeed(path(files.seed));
  const appId = defaultAppId(compose.hash);
  const platform = await SimulatedPlatform.open(options.teeDirectory ?? directory);
  const root = toPem(platform.root, certificateLabel);
  await writeFileAtomic(path(files.trust), serializeTrust(root, issueCollateral(platform)));

  await rm(path(files.events), { force: true });
  const vmConfig = JSON.stringify({ spec_version: 1, image: 'laptop', os_image_hash: '' });
  const attestor = await Attestor.open({
    quoter: new SimulatedTdxQuoter(platform, { ...nothingBooted(), mrConfigId: mrConfigIdV1(compose.hash) }),
    eventLogPath: path(files.events),
    vmConfig,
  });
  const agent = await assembleAgent({
    compose,
    appId,
    instanceId: compose.noInstanceId ? Buffer.alloc(0) : instanceId(sha256(seed, 'instance').subarray(0, 20), appId),
    keys: await readKeys(options.appKeysFile, seed, appId),
    attestor,
    vmConfig,
    dockerSocket: options.dockerSocket,
    dataDisks: ['/'],
    shutDown: null,
    log,
  });

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
    internalRoute(agent),
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
  const text = given === null ? await readIfThere(own) : await readFile(given, 'utf8');
  if (text !== null) return parseAppCompose(text);
  const made = `${JSON.stringify(defaultCompose, null, 2)}\n`;
  await writeFileAtomic(own, made);
  return parseAppCompose(made);
}

async function readKeys(given: string | null, seed: Buffer, appId: Buffer): Promise<AppKeys> {
  if (given !== null) return parseAppKeys(await readFile(given, 'utf8'));
  return appKeysFromSeed(sha256(seed, 'app-keys', appId));
}

/** The secret of this directory, made once. */
async function readSeed(path: string): Promise<Buffer> {
  const text = await readIfThere(path);
  if (text !== null) {
    const seed = Buffer.from(text.trim(), 'hex');
    if (seed.length !== 32) throw new Error(`${path} is not 32 bytes in hexadecimal`);
    return seed;
  }
  const seed = randomBytes(32);
  await writeFileAtomic(path, `${seed.toString('hex')}\n`, 0o600);
  return seed;
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
