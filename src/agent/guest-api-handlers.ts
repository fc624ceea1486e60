import type { Handlers } from '../api/prpc/service.ts';
import { BerthError } from '../common/errors.ts';
import type { Agent } from './agent.ts';
import { appInfo } from './info.ts';
import { networkInfo } from './network-info.ts';
import type { GuestApi } from './protocol/guest-api.ts';
import { systemInfo } from './system-info.ts';
import { agentVersion } from './version.ts';

/** What the host asks. It is outside: measurements are for it only when the app shows them. */
export function guestApiHandlers(agent: Agent): Handlers<typeof GuestApi> {
  return {
    async Info() {
      const info = await appInfo(agent, 'public');
      return {
        version: agentVersion.version,
        app_id: info.app_id,
        instance_id: info.instance_id,
        app_cert: info.app_cert,
        tcb_info: info.tcb_info,
        device_id: info.device_id,
      };
    },

    SysInfo: () => systemInfo(agent.dataDisks),

    NetworkInfo: () => networkInfo(),

    async ListContainers() {
      return { containers: await agent.docker.list() };
    },

    async Shutdown() {
      if (agent.shutDown === null) throw new BerthError('unsupported', { feature: 'Shutdown' });
      await agent.shutDown();
      return {};
    },
  };
}
