import type { RuntimeEvent } from './events.ts';
import type { KeyProviderInfo } from './key-provider.ts';

/**
 * The events that a boot measures before the app may add its own. Readers look no further than `system-ready`, so what an
 * app emits later under one of these names counts for nothing.
 */
const END_OF_SYSTEM_EVENTS = 'system-ready';

/** What the system events say about a VM. */
export interface SystemEvents {
  /** 20 bytes. */
  readonly appId: Buffer;
  /** 32 bytes: SHA-256 of the bytes of app-compose.json. */
  readonly composeHash: Buffer;
  /** 20 bytes, or none when the app asked for no instance id. */
  readonly instanceId: Buffer;
  /** Only with keys from a KMS; 32 bytes. */
  readonly osImageHash?: Buffer;
  readonly keyProvider: KeyProviderInfo;
  /** File system of the data disk, such as `ext4`. */
  readonly storageFs: string;
}

/** The system events in the order in which a boot measures them. */
export function systemEvents(system: SystemEvents, version: 1 | 2 = 1): RuntimeEvent[] {
  const list: [string, Buffer | string][] = [
    ['system-preparing', ''],
    ['app-id', system.appId],
    ['compose-hash', system.composeHash],
    ['instance-id', system.instanceId],
    ['boot-mr-done', ''],
    ...(system.osImageHash ? [['os-image-hash', system.osImageHash] as [string, Buffer]] : []),
    ['key-provider', JSON.stringify(system.keyProvider)],
    ['storage-fs', system.storageFs],
    [END_OF_SYSTEM_EVENTS, ''],
  ];
  return list.map(([event, payload]) => ({
    event,
    payload: Buffer.from(payload as Buffer),
    ...(version === 2 ? { version } : {}),
  }));
}

/** Payload of the first system event of a name, or null. Events from `system-ready` on are not looked at. */
export function findSystemEvent(events: Iterable<RuntimeEvent>, name: string): Buffer | null {
  for (const { event, payload } of events) {
    if (event === name) return payload;
    if (event === END_OF_SYSTEM_EVENTS) return null;
  }
  return null;
}

/** Whether the boot is over, so that the app may emit events. */
export function isSystemReady(events: Iterable<RuntimeEvent>): boolean {
  return findSystemEvent(events, END_OF_SYSTEM_EVENTS) !== null;
}
