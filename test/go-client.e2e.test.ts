/** The code that is generated in Go for the metald API, and what it is told. */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openTestApi } from '../src/api/metald/testing/test-api.ts';
import { runCommand } from '../src/common/command.ts';
import { buildGoClient, type GoProgram, goVariants } from './support/go-client.ts';
import { smallConfig as config, development } from './support/metald-examples.ts';

let go: GoProgram;
before(async () => {
  go = await buildGoClient();
});
after(() => go?.[Symbol.asyncDispose]());

/** The host is a fake here, so that it can fail when it is told to. */
describe('the code that is generated in Go', () => {
  it('is used by a client that is formatted as Go is', async () => {
    const sources = fileURLToPath(new URL('go-client', import.meta.url));
    assert.equal((await runCommand('gofmt', ['-l', sources])).stdout, '');
  });

  for (const variant of goVariants) {
    it(`is told each error of the reference, with its details: ${JSON.stringify(variant)}`, async () => {
      await using api = await openTestApi({ quotas: { maxVms: 2 } });
      await using client = go.start({ url: api.url, ...variant });
      const as = development('a');
      const mine = { vmId: 'mine' };
      await client.call({ call: 'CreateVm', request: { ...mine, config }, metadata: as });
      await client.call({ call: 'CreateVm', request: { vmId: 'more', config }, metadata: as });
      api.host.failing.add('start');
      const rows = [
        ['Unauthenticated', 'UNAUTHENTICATED', 'ListVms', {}, {}],
        ['InvalidArgument', 'INVALID_ARGUMENT', 'CreateVm', {}, as],
        ['NotFound', 'VM_NOT_FOUND', 'BootVm', { vmId: 'none' }, as],
        ['AlreadyExists', 'VM_EXISTS', 'CreateVm', { ...mine, config }, as],
        ['PermissionDenied', 'VM_NOT_OWNED', 'GetVmInfo', mine, development('b')],
        ['ResourceExhausted', 'QUOTA_EXCEEDED', 'CreateVm', { config }, as],
        ['FailedPrecondition', 'WRONG_STATE', 'PauseVm', mine, as],
        ['Internal', 'BOOT_FAILED', 'BootVm', mine, as],
      ] as const;
      for (const [code, reason, call, request, metadata] of rows) {
        const { error, reply } = await client.call({ call, request, metadata });
        assert.deepEqual([reply, error?.code, error?.reason], [undefined, code, reason]);
        assert.equal(error?.domain, 'metald.unkey.com');
      }
    });
  }
});
