import { readBody } from '../api/prpc/body.ts';
import { sendReply } from '../api/prpc/http.ts';
import { asciiJson } from '../api/prpc/json.ts';
import type { Trust } from '../attest/verify/input.ts';
import { verifyAttestation } from '../attest/verify/verify.ts';
import type { Route } from './http-server.ts';
import { reportJson } from './verify-report.ts';
import { readVerifyFile, readVerifyRequest } from './verify-request.ts';

/** Hexadecimal of the largest attestation, and what is expected of it. */
const maxRequestBytes = 4 * 1024 * 1024;

/**
 * `POST /verify`: an attestation or a quote with what it must say; the reply is a report, 200 whether it is valid or not.
 * @param trust asked for at each request
 */
export function verifyRoute(trust: () => Trust): Route {
  return async ({ request, response, path }) => {
    if (request.method !== 'POST' || path.length !== 1 || path[0] !== 'verify') return false;
    const body = await readBody(request, maxRequestBytes);
    const { input, expected } = readVerifyRequest(readVerifyFile(body));
    const report = await verifyAttestation(input, trust(), expected);
    const text = asciiJson(JSON.stringify(reportJson(report), null, 2));
    sendReply(response, { status: 200, contentType: 'application/json', body: text });
    return true;
  };
}
