import { readFile } from 'node:fs/promises';
import type { AppCompose } from '../attest/app-compose.ts';
import { mrConfigIdV1 } from '../attest/measurements.ts';
import type { Quoter } from '../attest/quoter.ts';
import { parseMeasurements } from './measurements-file.ts';
import type { TeeConfig } from './run-config.ts';

/** What measures this VM and signs, and what else it can do. */
export interface Tee {
  readonly quoter: Quoter;
  /** A secret of 32 bytes that is kept for this app on this machine, and what names its keeper (hex); null without one. */
  readonly sealedSeed: (() => Promise<{ readonly seed: Buffer; readonly keeper: string }>) | null;
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
      const boot = parseMeasurements(await readFile(config.measurements, 'utf8'));
      const quoter = new SimulatedTdxQuoter(platform, { ...boot, mrConfigId: mrConfigIdV1(compose.hash) });
      return { quoter, sealedSeed: null };
    }
    case 'tdx': {
      const { TsmQuoter } = await import('../attest/hardware/tsm-quoter.ts');
      return { quoter: await TsmQuoter.open(), sealedSeed: null };
    }
    case 'tpm': {
      const [{ TpmTools }, { TpmQuoter }, { tpmSeed }, { registerPcrs }] = await Promise.all([
        import('../attest/tpm/tools.ts'),
        import('../attest/tpm/tpm-quoter.ts'),
        import('../attest/tpm/tpm-seal.ts'),
        import('../attest/tpm/registers.ts'),
      ]);
      const tools = new TpmTools(config.tcti);
      const { bootEvents } = parseMeasurements(await readFile(config.measurements, 'utf8'));
      const quoter = await TpmQuoter.open(tools, bootEvents);
      return {
        quoter,
        sealedSeed: async () => ({
          seed: await tpmSeed(tools, registerPcrs),
          keeper: quoter.publicKey.toString('hex'),
        }),
      };
    }
  }
}
