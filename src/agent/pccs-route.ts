import type { Collateral } from '../attest/simulated/collateral.ts';
import type { Exchange, Route } from './http-server.ts';

/**
 * What a verifier asks a provisioning certificate caching service for, at the paths and in the shapes of Intel's:
 * `/{sgx,tdx}/certification/v4/{pckcrl,rootcacrl,tcb,qe/identity}`.
 * @param collateral issued anew for each request
 */
export function pccsRoute(collateral: () => Collateral): Route {
  return async (exchange) => {
    const { request, path, query } = exchange;
    const [tee, ...rest] = path;
    if (request.method !== 'GET' || (tee !== 'sgx' && tee !== 'tdx')) return false;
    const parameters = new URLSearchParams(query);
    switch (rest.join('/')) {
      case 'certification/v4/pckcrl': {
        const { pck_crl: crl, pck_crl_issuer_chain: chain } = collateral();
        const isDer = parameters.get('encoding') === 'der';
        send(exchange, isDer ? Buffer.from(crl, 'hex') : crl, 'SGX-PCK-CRL-Issuer-Chain', chain);
        return true;
      }
      case 'certification/v4/rootcacrl':
        send(exchange, collateral().root_ca_crl);
        return true;
      case 'certification/v4/tcb': {
        const { tcb_info: info, tcb_info_signature: signature, tcb_info_issuer_chain: chain } = collateral();
        send(exchange, `{"tcbInfo":${info},"signature":"${signature}"}`, 'TCB-Info-Issuer-Chain', chain);
        return true;
      }
      case 'certification/v4/qe/identity': {
        const {
          qe_identity: identity,
          qe_identity_signature: signature,
          qe_identity_issuer_chain: chain,
        } = collateral();
        const body = `{"enclaveIdentity":${identity},"signature":"${signature}"}`;
        send(exchange, body, 'SGX-Enclave-Identity-Issuer-Chain', chain);
        return true;
      }
      default:
        return false;
    }
  };
}

function send({ response }: Exchange, content: string | Buffer, header?: string, chain = ''): void {
  const body = Buffer.from(content as string);
  // Line breaks cannot stand in a header: the chain is percent-encoded, as Intel's service sends it.
  if (header !== undefined) response.setHeader(header, encodeURIComponent(chain));
  const type = body[0] === 0x7b ? 'application/json' : 'application/pkix-crl';
  response.writeHead(200, { 'content-type': type, 'content-length': body.length });
  response.end(body);
}
