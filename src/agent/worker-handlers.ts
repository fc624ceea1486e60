import type { Handlers } from '../api/prpc/service.ts';
import { signingKey } from '../attest/sign.ts';
import type { Agent } from './agent.ts';
import { appInfo } from './info.ts';
import type { Worker } from './protocol/dstack-guest.ts';
import { agentVersion } from './version.ts';

/** The methods of the public HTTP port. */
export function workerHandlers(agent: Agent): Handlers<typeof Worker> {
  return {
    Info: () => appInfo(agent, 'public'),

    Version: () => agentVersion,

    async GetAttestationForAppKey({ algorithm }) {
      const { publicKey } = await signingKey(agent.keys, algorithm);
      const kind = algorithm === 'ed25519' ? 'ed25519-pk' : 'secp256k1c-pk';
      const statement = `dip1::${kind}:${publicKey.toString('base64url')}`;
      const { quote, eventLog, reportData, vmConfig } = await agent.attestor.getQuote(Buffer.from(statement, 'ascii'));
      return { quote, event_log: JSON.stringify(eventLog), report_data: reportData, vm_config: vmConfig };
    },
  };
}
