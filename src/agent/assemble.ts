import { createPrivateKey } from 'node:crypto';
import type { AppCompose } from '../attest/app-compose.ts';
import type { AppKeys } from '../attest/app-keys.ts';
import type { Attestor } from '../attest/attest.ts';
import { findSystemEvent, isSystemReady, systemEvents } from '../attest/system-events.ts';
import { attestedInfo } from '../attest/tcb-info.ts';
import { encodeAppInfo } from '../attest/tls/app-info.ts';
import { type CertificateSigner, issueTlsKey, LocalSigner, type TlsKeyContext } from '../attest/tls/tls-key.ts';
import type { Agent } from './agent.ts';
import { Docker } from './docker.ts';
import type { AgentLog } from './log.ts';

/** What an agent is made from. */
export interface AgentOptions {
  readonly compose: AppCompose;
  /** 20 bytes. */
  readonly appId: Buffer;
  /** 20 bytes, or none. */
  readonly instanceId: Buffer;
  /** 32 bytes; measured with keys from a KMS only. */
  readonly osImageHash?: Buffer;
  readonly keys: AppKeys;
  /** Default: the app's own authority, which the keys must have then. */
  readonly signer?: CertificateSigner;
  readonly attestor: Attestor;
  readonly vmConfig: string;
  /** Of the container engine. */
  readonly dockerSocket: string;
  readonly dataDisks: readonly string[];
  readonly shutDown: (() => Promise<void>) | null;
  readonly log: AgentLog;
}

/**
 * Measures the system's events unless this boot has them already, and puts the agent together.
 * @throws Error when this boot measured another app
 */
export async function assembleAgent(options: AgentOptions): Promise<Agent> {
  const { attestor, compose, keys, vmConfig, dataDisks, shutDown, log } = options;
  await measureSystem(options);
  const tls: TlsKeyContext = {
    signer: options.signer ?? localSigner(keys, attestor, compose),
    attest: (reportData) => attestor.attest(reportData, { stripped: true }),
  };
  const appCert = once(() => issueAppCert(tls));
  return {
    compose,
    vmConfig,
    keys,
    attestor,
    tls,
    appCert,
    docker: new Docker(options.dockerSocket),
    dataDisks,
    shutDown,
    log,
  };
}

async function measureSystem(options: AgentOptions): Promise<void> {
  const { attestor, compose, appId, instanceId, osImageHash, keys } = options;
  const { name, id } = keys.keyProvider;
  const expected = systemEvents(
    {
      appId,
      composeHash: compose.hash,
      instanceId,
      ...(osImageHash === undefined ? {} : { osImageHash }),
      keyProvider: { name, id },
      storageFs: compose.storageFs,
    },
    compose.eventLogVersion,
  );
  // A boot that was cut off in the middle of its measurements goes on where it was.
  const measured = attestor.runtimeEvents();
  if (!isSystemReady(measured)) for (const event of expected.slice(measured.length)) await attestor.measure(event);
  for (const event of expected)
    if (!findSystemEvent(attestor.runtimeEvents(), event.event)?.equals(event.payload))
      throw new Error(`this boot measured another ${event.event}`);
}

function localSigner(keys: AppKeys, attestor: Attestor, compose: AppCompose): CertificateSigner {
  const { keyProvider, caCert } = keys;
  if (keyProvider.name === 'kms') throw new Error('keys from a KMS need its signature on certificates');
  return new LocalSigner(createPrivateKey(keyProvider.caKey), caCert, async () =>
    encodeAppInfo(await attestedInfo(attestor, compose)),
  );
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
