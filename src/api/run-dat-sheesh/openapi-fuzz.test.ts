/**
 * Fuzzes every operation against fakes. BERTH_FUZZ_RUNS sets how many requests each operation gets, BERTH_FUZZ_SEED which.
 * Real VMs get fewer of them in test/openapi-fuzz.e2e.test.ts.
 */

import { test } from 'node:test';
import { FakeVms } from './testing/fake-vms.ts';
import { fuzzOperations } from './testing/openapi-fuzz.ts';
import { createTestApi } from './testing/test-api.ts';

const runs = Number(process.env.BERTH_FUZZ_RUNS ?? 60);
const seed = Number(process.env.BERTH_FUZZ_SEED ?? 20_260_102);

test(`every operation answers as documented (seed ${seed}, ${runs} requests each)`, async (context) => {
  await using api = await createTestApi({ vms: new FakeVms({ maxVms: 1000 }) });
  await fuzzOperations(context, {
    send: (method, url, body, headers) => api.call(method, url, body, headers),
    async prepare() {
      const image = await api.images.create({ name: 'n', description: 'd' });
      const stopped = await api.createVm();
      await api.vms.stop(stopped);
      return [await api.createVm(), stopped, image.id];
    },
    // A password hash costs a tenth of a second on purpose.
    runsOf: (operationId) => (operationId === 'login' ? Math.min(runs, 10) : runs),
    seed,
    shrink: true,
  });
});
