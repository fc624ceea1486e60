import type { KeyProviderInfo } from '../attest/key-provider.ts';

/** What the agent serves: one app in one VM. */
export interface App {
  readonly name: string;
  /** The bytes of app-compose.json as text. */
  readonly compose: string;
  /** 32 bytes: SHA-256 of those bytes. */
  readonly composeHash: Buffer;
  /** 20 bytes. */
  readonly appId: Buffer;
  /** 20 bytes, or none. */
  readonly instanceId: Buffer;
  /** 32 bytes, or none. */
  readonly osImageHash: Buffer;
  readonly keyProvider: KeyProviderInfo;
  /** Text of the VM's configuration as the host gave it. */
  readonly vmConfig: string;
  /** Whether /logs, /metrics, and measurements in what is public, may be seen from outside. */
  readonly publicLogs: boolean;
  readonly publicSysinfo: boolean;
  readonly publicTcbinfo: boolean;
}
