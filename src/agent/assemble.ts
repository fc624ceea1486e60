import { createPrivateKey } from 'node:crypto';
import type { AppCompose } from '../attest/app-compose.ts';
import type { AppKeys } from '../attest/app-keys.ts';
import type { Attestor } from '../attest/attest.ts';
import type { KeyProviderInfo } from '../attest/key-provider.ts';
import { findSystemEvent, isSystemReady, systemEvents } from '../attest/system-events.ts';
import { attestedInfo } from '../attest/tcb-info.ts';
import { type CertificateSigner, issueTlsKey, LocalSigner, type TlsKeyContext } from '../attest/tls/tls-key.ts';
import type { Agent } from './agent.ts';
import { Docker } from './docker.ts';
import type { Identity } from './instance-info.ts';
import type { AgentLog } from './log.ts';

/** What an agent is made from. */
export interface AgentOptions extends Identity {
  readonly compose: AppCompose;
  /** 32 bytes; measured with keys from a KMS only. */
  readonly osImageHash?: Buffer;
  /** Asked for once the app is measured: who gives keys may want to see that. */
  readonly keys: () => Promise<AppKeys>;
  /** Who signs certificates; null for the app's own authority, which is in its keys. */
  readonly signer: (keys: AppKeys, appInfo: () => Promise<Buffer>) => Promise<CertificateSigner | null>;
  readonly attestor: Attestor;
  readonly vmConfig: string;
  /** Of the container engine. */
  readonly dockerSocket: string;
  readonly dataDisks: readonly string[];
  readonly shutDown: (() => Promise<void>) | null;
  readonly log: AgentLog;
}

/** The last event before keys are asked for. */
const appIsMeasured = 'boot-mr-done';

/**
 * Measures the system's events unless this boot has them already, gets the keys, and puts the agent together.
 * @throws Error when this boot measured another app
 */
export async function assembleAgent(options: AgentOptions): Promise<Agent> {
  const { attestor, compose, vmConfig, dataDisks, shutDown, log } = options;
  await measureUpTo(appIsMeasured, options, { name: 'none', id: '' });
  const keys = await options.keys();
  const { name, id } = keys.keyProvider;
  await measureUpTo(null, options, { name, id });

  const appInfo = async () => {
    const { encodeAppInfo } = await import('../attest/tls/app-info.ts');
    return encodeAppInfo(await attestedInfo(attestor, compose));
  };
  const tls: TlsKeyContext = {
    signer: (await options.signer(keys, appInfo)) ?? localSigner(keys, appInfo),
    attest: (reportData) => attestor.attest(reportData, { stripped: true }),
  };
  const appCert = once(() => issueAppCert(tls));
  const docker = new Docker(options.dockerSocket);
  return { compose, vmConfig, keys, attestor, tls, appCert, docker, dataDisks, shutDown, log };
}

/** Measures the system's events up to one, or all. A boot that was cut off in the middle of them goes on where it was. */
async function measureUpTo(last: string | null, options: AgentOptions, keyProvider: KeyProviderInfo): Promise<void> {
  const { attestor, compose, appId, instanceId, osImageHash } = options;
  const all = systemEvents(
    {
      appId,
      composeHash: compose.hash,
      instanceId,
      ...(osImageHash === undefined || keyProvider.name !== 'kms' ? {} : { osImageHash }),
      keyProvider,
      storageFs: compose.storageFs,
    },
    compose.eventLogVersion,
  );
  const wanted = last === null ? all : all.slice(0, all.findIndex(({ event }) => event === last) + 1);
  const measured = attestor.runtimeEvents();
  if (!isSystemReady(measured)) for (const event of wanted.slice(measured.length)) await attestor.measure(event);
  for (const { event, payload } of wanted)
    if (!findSystemEvent(attestor.runtimeEvents(), event)?.equals(payload))
      throw new Error(`this boot measured another ${event}`);
}

function localSigner({ keyProvider, caCert }: AppKeys, appInfo: () => Promise<Buffer>): CertificateSigner {
  if (keyProvider.name === 'kms') throw new Error('keys from a KMS need its signature on certificates');
  return new LocalSigner(createPrivateKey(keyProvider.caKey), caCert, appInfo);
}

/** A client certificate that attests the agent's own key. */
async function issueAppCert(tls: TlsKeyContext): Promise<string> {
  const request = {
    subject: 'demo-cert',
    altNames: [],
    usageRaTls: true,
    usageServerAuth: false,
    usageClientAuth: true,
    withAppInfo: false,
  };
  return (await issueTlsKey(request, tls)).certificateChain.join('\n');
}

/** The value of the first call that succeeded. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = null;
      throw error;
    });
    return made;
  };
}
