import type { AppCompose } from './app-compose.ts';
import type { Attestor } from './attest.ts';
import { eventJson, isRuntimeEvent } from './events.ts';
import { sha256 } from './hash.ts';
import { mrAggregated, mrSystem } from './measurements.ts';
import { findSystemEvent } from './system-events.ts';

/** What `Info` says about the VM's measurements; bytes. */
export interface AttestedInfo {
  readonly appId: Buffer;
  readonly instanceId: Buffer;
  readonly composeHash: Buffer;
  readonly osImageHash: Buffer;
  readonly mrAggregated: Buffer;
  readonly mrSystem: Buffer;
  /** The hash of nothing: there is no hardware id that an app may see. */
  readonly deviceId: Buffer;
  /** JSON text of the key provider. */
  readonly keyProviderInfo: string;
  /** JSON text, indented: registers, hashes, the whole event log, the text of app-compose.json. */
  readonly tcbInfo: string;
}

/** The answer to `Info`, from the event log and the registers. */
export async function attestedInfo(attestor: Attestor, compose: AppCompose): Promise<AttestedInfo> {
  const { registers, events: entries } = await attestor.measured();
  const events = entries.filter(isRuntimeEvent);
  const payload = (name: string): Buffer => findSystemEvent(events, name) ?? Buffer.alloc(0);
  const keyProvider = findSystemEvent(events, 'key-provider');
  const info = {
    appId: payload('app-id'),
    instanceId: payload('instance-id'),
    composeHash: payload('compose-hash'),
    osImageHash: payload('os-image-hash'),
    mrAggregated: mrAggregated(registers),
    mrSystem: mrSystem(registers, keyProvider),
    deviceId: sha256(''),
    keyProviderInfo: keyProvider?.toString() ?? '',
  };
  const [rtmr0, rtmr1, rtmr2, rtmr3] = registers.rtmrs;
  const hex = (bytes: Buffer): string => bytes.toString('hex');
  const tcbInfo = {
    mrtd: hex(registers.mrtd),
    rtmr0: hex(rtmr0),
    rtmr1: hex(rtmr1),
    rtmr2: hex(rtmr2),
    rtmr3: hex(rtmr3),
    mr_aggregated: hex(info.mrAggregated),
    os_image_hash: hex(info.osImageHash),
    compose_hash: hex(info.composeHash),
    device_id: hex(info.deviceId),
    event_log: entries.map(eventJson),
    app_compose: compose.text,
  };
  return { ...info, tcbInfo: JSON.stringify(tcbInfo, null, 2) };
}
