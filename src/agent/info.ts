import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Attestor } from '../attest/attest.ts';
import { eventJson } from '../attest/events.ts';
import { mrAggregated } from '../attest/measurements.ts';
import type { App } from './app.ts';
import type { AppInfo } from './protocol/dstack-guest.ts';

/** Nothing identifies the device: the hash of no bytes, as clients know it. */
const deviceId = createHash('sha256').digest();

/** Bytes of a text of the firmware that are shown. */
const maxFirmwareText = 200;

export interface InfoSources {
  readonly app: App;
  readonly attestor: Attestor;
  /** PEM certificates of the agent's own, joined. */
  readonly appCert: () => Promise<string>;
}

/**
 * `Info`.
 * @param audience `public`: measurements and configuration are left empty when the app does not show them
 */
export async function appInfo(sources: InfoSources, audience: 'app' | 'public'): Promise<AppInfo> {
  const { app, attestor } = sources;
  const shown = audience === 'app' || app.publicTcbinfo;
  const [measurements, appCert, vendor, product] = await Promise.all([
    attestor.measurements(),
    sources.appCert(),
    firmwareText('sys_vendor'),
    firmwareText('product_name'),
  ]);
  const aggregated = mrAggregated(measurements);
  const [rtmr0, rtmr1, rtmr2, rtmr3] = measurements.rtmrs.map((register) => register.toString('hex'));
  const tcbInfo = {
    mrtd: measurements.mrtd.toString('hex'),
    rtmr0,
    rtmr1,
    rtmr2,
    rtmr3,
    mr_aggregated: aggregated.toString('hex'),
    os_image_hash: app.osImageHash.toString('hex'),
    compose_hash: app.composeHash.toString('hex'),
    device_id: deviceId.toString('hex'),
    app_compose: app.compose,
    event_log: attestor.events().map(eventJson),
  };
  return {
    app_id: app.appId,
    instance_id: app.instanceId,
    app_cert: appCert,
    tcb_info: shown ? JSON.stringify(tcbInfo, null, 2) : '',
    app_name: app.name,
    device_id: deviceId,
    mr_aggregated: aggregated,
    os_image_hash: app.osImageHash,
    key_provider_info: JSON.stringify(app.keyProvider),
    compose_hash: app.composeHash,
    vm_config: shown ? app.vmConfig : '',
    cloud_vendor: vendor,
    cloud_product: product,
  };
}

/** A text of the firmware's tables; empty on machines that have none. */
async function firmwareText(name: string): Promise<string> {
  const text = await readFile(`/sys/class/dmi/id/${name}`, 'utf8').catch(() => '');
  return text.trim().slice(0, maxFirmwareText);
}
