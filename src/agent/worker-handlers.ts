import type { Handlers } from '../api/prpc/service.ts';
import { type KeyAlgorithm, keyAlgorithm } from '../attest/app-key.ts';
import { signingKey } from '../attest/sign.ts';
import type { Agent } from './agent.ts';
import { appInfo } from './info.ts';
import type { Worker } from './protocol/dstack-guest.ts';
import { shared } from './shared.ts';
import { agentVersion } from './version.ts';

/**
 * The methods of the public HTTP port. What asks the TEE is made once at a time for all who ask: nobody outside may keep it
 * from the app.
 */
export function workerHandlers(agent: Agent): Handlers<typeof Worker> {
  const info = shared(() => appInfo(agent, 'public'));
  const attestations = {
    ed25519: shared(() => attestationForAppKey(agent, 'ed25519')),
    secp256k1: shared(() => attestationForAppKey(agent, 'secp256k1')),
  };
  return {
    Info: info,

    Version: () => agentVersion,

    GetAttestationForAppKey: ({ algorithm }) => attestations[keyAlgorithm(algorithm)](),
  };
}

async function attestationForAppKey(agent: Agent, algorithm: KeyAlgorithm) {
  const { publicKey } = await signingKey(agent.keys, algorithm);
  const kind = algorithm === 'ed25519' ? 'ed25519-pk' : 'secp256k1c-pk';
  const statement = `dip1::${kind}:${publicKey.toString('base64url')}`;
  const { quote, eventLog, reportData, vmConfig } = await agent.attestor.getQuote(Buffer.from(statement, 'ascii'));
  return { quote, event_log: JSON.stringify(eventLog), report_data: reportData, vm_config: vmConfig };
}
