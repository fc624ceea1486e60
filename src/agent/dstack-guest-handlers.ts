import type { Handlers } from '../api/prpc/service.ts';
import { getKey } from '../attest/app-key.ts';
import { signData, verifyData } from '../attest/sign.ts';
import { issueTlsKey } from '../attest/tls/tls-key.ts';
import type { Agent } from './agent.ts';
import { appInfo } from './info.ts';
import type { DstackGuest } from './protocol/dstack-guest.ts';
import { readTlsKeyRequest } from './tls-key-request.ts';
import { agentVersion } from './version.ts';

/** The methods of dstack.sock. */
export function dstackGuestHandlers(agent: Agent): Handlers<typeof DstackGuest> {
  const { keys, attestor } = agent;
  return {
    async GetTlsKey(args) {
      const { key, certificateChain } = await issueTlsKey(readTlsKeyRequest(args), agent.tls);
      return { key, certificate_chain: certificateChain };
    },

    async GetKey({ path, purpose, algorithm }) {
      const { key, signatureChain } = await getKey(keys, path, purpose, algorithm);
      return { key, signature_chain: signatureChain };
    },

    async GetQuote({ report_data: data }) {
      const { quote, eventLog, reportData, vmConfig } = await attestor.getQuote(data);
      return { quote, event_log: JSON.stringify(eventLog), report_data: reportData, vm_config: vmConfig };
    },

    async Attest({ report_data: data }) {
      return { attestation: await attestor.attest(data) };
    },

    async EmitEvent({ event, payload }) {
      await attestor.emit(event, payload);
      return {};
    },

    Info: () => appInfo(agent, 'app'),

    // No VM of this host has a GPU that attests itself.
    GpuInfo: () => ({ attestation: '' }),

    async Sign({ algorithm, data }) {
      const { signature, signatureChain, publicKey } = await signData(keys, algorithm, data);
      return { signature, signature_chain: signatureChain, public_key: publicKey };
    },

    async Verify({ algorithm, data, signature, public_key: publicKey }) {
      return { valid: await verifyData(algorithm, data, signature, publicKey) };
    },

    Version: () => agentVersion,
  };
}
