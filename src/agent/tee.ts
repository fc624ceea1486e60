import { readFileSync } from 'node:fs';
import type { AppCompose } from '../attest/app-compose.ts';
import { mrConfigIdV1 } from '../attest/measurements.ts';
import type { Quoter } from '../attest/quoter.ts';
import type { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { parseMeasurements } from './measurements-file.ts';
import type { TeeConfig } from './run-config.ts';

/** What measures this VM and signs, and what else it can do. */
export interface Tee {
  readonly quoter: Quoter;
  /** Whom it can ask to keep a secret for the app, by the app's key provider. */
  readonly seeds: { readonly [P in 'local' | 'tpm']?: () => Promise<SealedSeed> };
}

/** A secret that is kept for one app on one machine. */
export interface SealedSeed {
  /** 32 bytes. */
  readonly seed: Buffer;
  /** What names its keeper, hex. */
  readonly keeper: string;
}

/** What a simulated machine keeps for an app: whoever holds the machine's keys can make it again. */
export async function simulatedSeed(platform: SimulatedPlatform, quoter: Quoter): Promise<SealedSeed> {
  const { localProviderEnclave, localSeed } = await import('../kms/local/seed.ts');
  return {
    seed: localSeed(platform.machineSecret(), await quoter.measurements()),
    keeper: localProviderEnclave.mrEnclave.toString('hex'),
  };
}

/** Each kind is loaded when it is asked for: a VM has one. */
export async function openTee(config: TeeConfig, compose: AppCompose): Promise<Tee> {
  switch (config.kind) {
    case 'simulated': {
      const [{ SimulatedPlatform }, { SimulatedTdxQuoter }] = await Promise.all([
        import('../attest/simulated/platform.ts'),
        import('../attest/simulated/tdx-quoter.ts'),
      ]);
      const platform = await SimulatedPlatform.open(config.directory);
      const boot = parseMeasurements(readFileSync(config.measurements, 'utf8'));
      const quoter = new SimulatedTdxQuoter(platform, { ...boot, mrConfigId: mrConfigIdV1(compose.hash) });
      return { quoter, seeds: { local: () => simulatedSeed(platform, quoter) } };
    }
    case 'tdx': {
      const { TsmQuoter } = await import('../attest/hardware/tsm-quoter.ts');
      return { quoter: await TsmQuoter.open(), seeds: {} };
    }
    case 'tpm': {
      const [{ TpmTools }, { TpmQuoter }, { tpmSeed }, { registerPcrs }] = await Promise.all([
        import('../attest/tpm/tools.ts'),
        import('../attest/tpm/tpm-quoter.ts'),
        import('../attest/tpm/tpm-seal.ts'),
        import('../attest/tpm/registers.ts'),
      ]);
      const tools = new TpmTools(config.tcti);
      const { bootEvents } = parseMeasurements(readFileSync(config.measurements, 'utf8'));
      const quoter = await TpmQuoter.open(tools, bootEvents);
      const keeper = quoter.publicKey.toString('hex');
      return { quoter, seeds: { tpm: async () => ({ seed: await tpmSeed(tools, registerPcrs), keeper }) } };
    }
  }
}
