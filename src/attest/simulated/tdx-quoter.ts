import type { TdxEvent } from '../events.ts';
import { RUNTIME_REGISTER } from '../events.ts';
import type { Measurements } from '../measurements.ts';
import { type Quoter, REPORT_DATA_BYTES } from '../quoter.ts';
import { extend, REGISTER_BYTES, type Rtmrs, replay } from '../rtmr.ts';
import type { SimulatedPlatform } from './platform.ts';

/** What is measured before the VM runs. */
export interface SimulatedTdConfig {
  readonly mrtd: Buffer;
  /** Of the registers 0 to 2. */
  readonly bootEvents: readonly TdxEvent[];
  /** 48 bytes; default zero. */
  readonly mrConfigId?: Buffer;
}

/** Stands for the TDX module of one VM: it holds the registers and has reports of them signed. */
export class SimulatedTdxQuoter implements Quoter {
  readonly platform = 'tdx';
  readonly simulated = true;
  readonly keepsRegisters = false;
  readonly #platform: SimulatedPlatform;
  readonly #config: SimulatedTdConfig;
  #rtmrs: Rtmrs;

  constructor(platform: SimulatedPlatform, config: SimulatedTdConfig) {
    if (config.bootEvents.some(({ imr }) => imr === RUNTIME_REGISTER))
      throw new RangeError('RTMR3 is for what is measured at run time');
    this.#platform = platform;
    this.#config = config;
    this.#rtmrs = replay(config.bootEvents);
  }

  bootEvents(): readonly TdxEvent[] {
    return this.#config.bootEvents;
  }

  extend(digest: Buffer): Promise<void> {
    const [rtmr0, rtmr1, rtmr2, rtmr3] = this.#rtmrs;
    this.#rtmrs = [rtmr0, rtmr1, rtmr2, extend(rtmr3, digest)];
    return Promise.resolve();
  }

  measurements(): Promise<Measurements> {
    return Promise.resolve(this.#measurements());
  }

  quote(reportData: Buffer): Promise<Buffer> {
    if (reportData.length !== REPORT_DATA_BYTES) throw new RangeError('report data has 64 bytes');
    const quote = this.#platform.quote({
      ...this.#measurements(),
      teeTcbSvn: Buffer.alloc(16),
      mrSeam: zeroRegister(),
      mrSignerSeam: zeroRegister(),
      seamAttributes: Buffer.alloc(8),
      tdAttributes,
      xfam,
      reportData,
    });
    return Promise.resolve(quote);
  }

  #measurements(): Measurements {
    return {
      mrtd: this.#config.mrtd,
      rtmrs: this.#rtmrs,
      mrConfigId: this.#config.mrConfigId ?? zeroRegister(),
      mrOwner: zeroRegister(),
      mrOwnerConfig: zeroRegister(),
    };
  }
}

/** SEPT_VE_DISABLE alone: verifiers refuse a TD without it, and one that can be debugged. */
const tdAttributes = Buffer.from('0000001000000000', 'hex');
/** x87, SSE and AVX, as a TD has at the least. */
const xfam = Buffer.from('0700000000000000', 'hex');

function zeroRegister(): Buffer {
  return Buffer.alloc(REGISTER_BYTES);
}
