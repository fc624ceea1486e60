import assert from 'node:assert/strict';
import { test } from 'node:test';
import { appKeysFromSeed } from '../attest/app-keys.ts';
import { SimulatedTdxQuoter } from '../attest/simulated/tdx-quoter.ts';
import { attestedVm } from '../attest/testing/attested-vm.ts';
import type { Agent } from './agent.ts';
import { workerHandlers } from './worker-handlers.ts';

type PublicHandlers = ReturnType<typeof workerHandlers>;

for (const [what, asks, ask] of [
  ['Info', 'measurements', ({ Info }: PublicHandlers) => Info({}, undefined)],
  ...['ed25519', 'secp256k1'].map(
    (algorithm) =>
      [
        `GetAttestationForAppKey of ${algorithm}`,
        'quote',
        ({ GetAttestationForAppKey }: PublicHandlers) => GetAttestationForAppKey({ algorithm }, undefined),
      ] as const,
  ),
] as const)
  test(`${what}: all who ask while the TEE is busy with it share the next answer`, async (t) => {
    await using vm = await attestedVm();
    const { compose, attestor } = vm;
    const parts: Partial<Agent> = { compose, attestor, keys: await appKeysFromSeed(), appCert: async () => '' };
    const handlers = workerHandlers(parts as Agent);
    const answer = SimulatedTdxQuoter.prototype[asks] as (...args: unknown[]) => Promise<unknown>;
    const asked = Promise.withResolvers<void>();
    const free = Promise.withResolvers<void>();
    async function slow(this: SimulatedTdxQuoter, ...args: unknown[]) {
      asked.resolve();
      await free.promise;
      return answer.apply(this, args);
    }
    const { mock } = t.mock.method(SimulatedTdxQuoter.prototype, asks, slow as never);
    const first = ask(handlers);
    await asked.promise;
    const others = Array.from({ length: 30 }, () => ask(handlers));
    free.resolve();
    await Promise.all([first, ...others]);
    assert.equal(mock.callCount(), 2);
  });
