import type { AppCompose } from '../attest/app-compose.ts';
import type { AppKeys } from '../attest/app-keys.ts';
import type { Attestor } from '../attest/attest.ts';
import type { TlsKeyContext } from '../attest/tls/tls-key.ts';
import type { Docker } from './docker.ts';
import type { AgentLog } from './log.ts';

/** What the services of the agent are made from. */
export interface Agent {
  /** The app that the VM is for. */
  readonly compose: AppCompose;
  /** Text of the VM's configuration as the host gave it. */
  readonly vmConfig: string;
  readonly keys: AppKeys;
  readonly attestor: Attestor;
  /** Who signs certificates for the app's keys, and what attests them. */
  readonly tls: TlsKeyContext;
  /** A certificate of this agent's own with its chain, PEM, joined; made once. */
  readonly appCert: () => Promise<string>;
  readonly docker: Docker;
  /** Mount points of which sizes are told. */
  readonly dataDisks: readonly string[];
  /** Powers the VM off; null where there is none. */
  readonly shutDown: (() => Promise<void>) | null;
  readonly log: AgentLog;
}
