import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { parseAppCompose } from '../attest/app-compose.ts';
import type { AppKeys } from '../attest/app-keys.ts';
import { Attestor } from '../attest/attest.ts';
import { signingKey } from '../attest/sign.ts';
import type { CertificateSigner } from '../attest/tls/tls-key.ts';
import { readIfThere } from '../common/read-if-there.ts';
import type { Agent } from './agent.ts';
import { assembleAgent } from './assemble.ts';
import { closeServers } from './close-servers.ts';
import { readIdentity } from './instance-info.ts';
import type { AgentLog } from './log.ts';
import type { RunConfig } from './run-config.ts';
import { agentServers } from './servers.ts';
import { assertFree, listenTcp, listenUnix } from './sockets.ts';
import { parseSysConfig, type SysConfig } from './sys-config.ts';
import { openTee } from './tee.ts';
import { readAppKeys } from './vm-keys.ts';

export interface RunningAgent {
  readonly httpUrl: string;
  stop(): Promise<void>;
}

/**
 * The agent in a VM: everybody in it may use dstack.sock, everybody outside the HTTP port, root alone the host's socket.
 * Started again during the same boot it goes on with that boot's event log.
 */
export async function startAgent(config: RunConfig, log: AgentLog): Promise<RunningAgent> {
  // Two agents must not write one event log.
  await assertFree(config.guestSocket);
  const compose = parseAppCompose(readFileSync(config.appCompose, 'utf8'));
  const identity = await readIdentity(config.instanceInfo, compose);
  const sysConfig = parseSysConfig(readIfThere(config.sysConfig));
  const tee = await openTee(config.tee, compose);
  const attestor = await Attestor.open({
    quoter: tee.quoter,
    eventLogPath: config.eventLog,
    vmConfig: sysConfig.vmConfig,
  });
  const agent = await assembleAgent({
    compose,
    ...identity,
    ...(sysConfig.osImageHash === null ? {} : { osImageHash: sysConfig.osImageHash }),
    keys: () => readAppKeys({ path: config.appKeys, compose, sysConfig, attestor, seeds: tee.seeds }),
    signer: (keys) => kmsSigner(keys, sysConfig),
    attestor,
    vmConfig: sysConfig.vmConfig,
    dockerSocket: config.dockerSocket,
    dataDisks: config.dataDisks,
    shutDown: shutDownBy(config.shutdown),
    log,
  });

  const make = agentServers(agent);
  const sockets = [
    ...config.sockets.map((directory) => [make.internal(), join(directory, 'dstack.sock'), 0o777] as const),
    ...config.sockets.map((directory) => [make.tappd(), join(directory, 'tappd.sock'), 0o777] as const),
    [make.guestApi(), config.guestSocket, 0o600] as const,
  ];
  const http = make.external();
  const servers: Server[] = [...sockets.map(([server]) => server), http];
  try {
    await Promise.all(sockets.map(([server, path, mode]) => listenUnix(server, path, mode)));
    const httpUrl = await listenTcp(http, config.http.host, config.http.port);
    setImmediate(() => {
      warmUp(agent).catch((error: unknown) => log.error({ err: error }, 'what is made beforehand failed'));
    });
    return { httpUrl, stop: () => closeServers(servers) };
  } catch (error) {
    await closeServers(servers);
    throw error;
  }
}

/** Makes what is made once, and loads what is loaded once, when the sockets answer: the first who asks does not wait long. */
async function warmUp(agent: Agent): Promise<void> {
  await agent.appCert();
  await signingKey(agent.keys, 'secp256k1');
}

/** Whoever gave the keys signs the certificates: a KMS, or the app itself. */
async function kmsSigner({ keyProvider, caCert }: AppKeys, { vmConfig }: SysConfig): Promise<CertificateSigner | null> {
  if (keyProvider.name !== 'kms') return null;
  const { KmsSigner } = await import('../kms/client.ts');
  return new KmsSigner(keyProvider.url, caCert, vmConfig);
}

function shutDownBy([command, ...args]: readonly string[]): (() => Promise<void>) | null {
  if (command === undefined) return null;
  return async () => {
    const { runCommand } = await import('../common/command.ts');
    await runCommand(command, args);
  };
}
