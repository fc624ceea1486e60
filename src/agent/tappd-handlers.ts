import type { Handlers } from '../api/prpc/service.ts';
import { getKey } from '../attest/app-key.ts';
import { deriveTlsKey, issueTlsKey } from '../attest/tls/tls-key.ts';
import { BerthError } from '../common/errors.ts';
import type { Agent } from './agent.ts';
import { appInfo } from './info.ts';
import type { Tappd } from './protocol/dstack-guest.ts';
import { type HashedReportData, hashReportData } from './report-data.ts';
import { readTlsKeyRequest } from './tls-key-request.ts';
import { agentVersion } from './version.ts';

/** The methods of the older tappd.sock. */
export function tappdHandlers(agent: Agent): Handlers<typeof Tappd> {
  const { keys, attestor } = agent;

  async function quoteOf({ reportData, algorithm, prefix }: HashedReportData) {
    const { quote, eventLog } = await attestor.getQuote(reportData);
    return { quote, event_log: JSON.stringify(eventLog), hash_algorithm: algorithm, prefix };
  }

  return {
    async DeriveKey({ path, random_seed: random, ...args }) {
      const request = readTlsKeyRequest(args);
      const { key, certificateChain } = random
        ? await issueTlsKey(request, agent.tls)
        : await deriveTlsKey(keys, path, request, agent.tls);
      return { key, certificate_chain: certificateChain };
    },

    async DeriveK256Key({ path, purpose, algorithm }) {
      if (!['', 'k256', 'secp256k1'].includes(algorithm))
        throw new BerthError('invalid_argument', { reason: 'Unsupported algorithm' });
      const { key, signatureChain } = await getKey(keys, path, purpose, '');
      return { k256_key: key, k256_signature_chain: signatureChain };
    },

    TdxQuote: ({ report_data: data, hash_algorithm: algorithm, prefix }) =>
      quoteOf(hashReportData(data, algorithm, prefix)),

    RawQuote: ({ report_data: data }) => quoteOf(hashReportData(data, 'raw', '')),

    Info: () => appInfo(agent, 'app'),

    Version: () => agentVersion,
  };
}
