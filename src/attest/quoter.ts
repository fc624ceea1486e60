import type { TdxEvent } from './events.ts';
import type { Measurements } from './measurements.ts';

/** Bytes of the caller's own data that a quote binds. */
export const REPORT_DATA_BYTES = 64;

/** Who signs quotes, in the words of the versioned attestation (`tdx`) and of Berth's own TPM mode. */
export type Platform = 'tdx' | 'tpm';

/**
 * The hardware that measures a VM and signs what it measured, or what stands for it: a simulated TDX module, the kernel's
 * configfs-tsm, a TPM. Quotes of one VM are made one after another.
 */
export interface Quoter {
  readonly platform: Platform;
  /** True unless the signature ends at the maker of the hardware. Shown wherever a quote is. */
  readonly simulated: boolean;
  /**
   * Whether the registers outlive the process, as hardware's do. Otherwise the events of this boot are extended again when
   * the agent starts again.
   */
  readonly keepsRegisters: boolean;
  /** What the firmware and the boot measured into the registers 0 to 2, in order. */
  bootEvents(): readonly TdxEvent[];
  /** Extends RTMR3 (a PCR in TPM mode) by a 48-byte digest. What was extended cannot be taken back. */
  extend(digest: Buffer): Promise<void>;
  /** The registers as they are now. */
  measurements(): Promise<Measurements>;
  /**
   * Signs the registers together with `reportData`.
   *
   * @param reportData exactly 64 bytes
   * @returns the quote in the platform's format: a TDX quote of version 4, or a TPM quote (see tpm-quote.ts)
   */
  quote(reportData: Buffer): Promise<Buffer>;
}
