import { readFile } from 'node:fs/promises';
import { attestedInfo } from '../attest/tcb-info.ts';
import type { Agent } from './agent.ts';
import type { AppInfo } from './protocol/dstack-guest.ts';

/** Characters of a text of the firmware that are shown. */
const maxFirmwareText = 200;
/** How long `Info` waits for the agent's certificate, milliseconds: clients give up after three seconds. */
const certificateMs = 1500;

/**
 * `Info`.
 * @param audience `public`: measurements and configuration are left empty when the app does not show them
 */
export async function appInfo(agent: Agent, audience: 'app' | 'public'): Promise<AppInfo> {
  const { compose } = agent;
  const shown = audience === 'app' || compose.publicTcbinfo;
  const [info, appCert, vendor, product] = await Promise.all([
    attestedInfo(agent.attestor, compose),
    certificate(agent),
    firmwareText('sys_vendor'),
    firmwareText('product_name'),
  ]);
  return {
    app_id: info.appId,
    instance_id: info.instanceId,
    app_cert: appCert,
    tcb_info: shown ? info.tcbInfo : '',
    app_name: compose.name,
    device_id: info.deviceId,
    mr_aggregated: info.mrAggregated,
    os_image_hash: info.osImageHash,
    key_provider_info: info.keyProviderInfo,
    compose_hash: info.composeHash,
    vm_config: shown ? agent.vmConfig : '',
    cloud_vendor: vendor,
    cloud_product: product,
  };
}

/** The agent's certificate, empty while nobody signs it: an app must learn who it is though its KMS is away. */
async function certificate({ appCert, log }: Agent): Promise<string> {
  const { promise: late, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(resolve, certificateMs, '');
  try {
    return await Promise.race([appCert(), late]);
  } catch (error) {
    log.debug({ err: error }, "the agent's certificate was not signed");
    return '';
  } finally {
    clearTimeout(timer);
  }
}

/** A text of the firmware's tables; empty on machines that have none. */
async function firmwareText(name: string): Promise<string> {
  const text = await readFile(`/sys/class/dmi/id/${name}`, 'utf8').catch(() => '');
  return text.trim().slice(0, maxFirmwareText);
}
