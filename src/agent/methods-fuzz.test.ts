import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { writeJson } from '../api/prpc/json.ts';
import type { AnyMessage } from '../api/prpc/message.ts';
import type { Service } from '../api/prpc/service.ts';
import { anyMessage } from '../api/prpc/testing/arbitrary.ts';
import { DstackGuest, Tappd, Worker } from './protocol/dstack-guest.ts';
import { startTestAgent, type TestDevAgent } from './testing/dev-agent.ts';
import { unixFetch } from './testing/unix-fetch.ts';

let agent: TestDevAgent;
before(async () => {
  agent = await startTestAgent();
});
after(() => agent[Symbol.asyncDispose]());

/** Some of the values that methods look for, so that not every request ends at the first check. */
const known = fc.constantFrom('', 'secp256k1', 'ed25519', 'secp256k1_prehashed', 'sha256', 'raw', 'example.com');

function anyCall(mount: string, service: Service): fc.Arbitrary<readonly [path: string, body: unknown]> {
  const calls = Object.entries(service).map(([method, { input }]) =>
    fc.tuple(anyMessage(input), known).map(([message, text]) => {
      const likely: AnyMessage = 'algorithm' in message ? { ...message, algorithm: text } : message;
      return [`${mount}${method}`, JSON.parse(writeJson(input, likely)) as unknown] as const;
    }),
  );
  return fc.oneof(...calls);
}

for (const [name, mount, service] of [
  ['dstack.sock', '/', DstackGuest],
  ['tappd.sock', '/prpc/', Tappd],
  ['the HTTP port', '/prpc/', Worker],
] as const)
  test(`no message makes ${name} fail inside`, async () => {
    await fc.assert(
      fc.asyncProperty(anyCall(mount, service), async ([path, body]) => {
        const status =
          service === Worker
            ? (await fetch(agent.httpUrl + path, { method: 'POST', body: JSON.stringify(body) })).status
            : (await unixFetch(service === Tappd ? agent.tappdSocket : agent.dstackSocket, path, body)).status;
        assert.ok(status === 200 || status === 400, `${path} ${JSON.stringify(body)}: ${status}`);
      }),
      { numRuns: 150 },
    );
    assert.deepEqual(agent.errors, []);
  });
