import type { TdxEvent } from '../events.ts';
import type { Measurements } from '../measurements.ts';
import { type Quoter, REPORT_DATA_BYTES } from '../quoter.ts';
import { REGISTER_BYTES, type Rtmrs, replay } from '../rtmr.ts';
import { ATTESTATION_KEY_HANDLE, attestationKey } from './attestation-key.ts';
import { quotedPcrs, registerPcrs } from './registers.ts';
import { selection, splitPcrs, type TpmTools } from './tools.ts';
import { encodeTpmQuote, qualifyingData } from './tpm-quote.ts';

/**
 * Measures into a TPM and has it sign. Whether that TPM is a chip or a program cannot be told from its signatures, so quotes
 * count as simulated.
 */
export class TpmQuoter implements Quoter {
  readonly platform = 'tpm';
  readonly simulated = true;
  readonly keepsRegisters = true;
  readonly #tools: TpmTools;
  readonly #bootEvents: readonly TdxEvent[];
  readonly #publicKey: Buffer;

  private constructor(tools: TpmTools, bootEvents: readonly TdxEvent[], publicKey: Buffer) {
    this.#tools = tools;
    this.#bootEvents = bootEvents;
    this.#publicKey = publicKey;
  }

  /**
   * Measures the boot, as far as that was not done since the machine was reset.
   *
   * @throws Error when the PCRs hold another boot
   */
  static async open(tools: TpmTools, bootEvents: readonly TdxEvent[]): Promise<TpmQuoter> {
    const found = await readRegisters(tools);
    // A crash may have come between two events.
    const measured = bootEvents.findIndex((_, count) => isBoot(found, bootEvents.slice(0, count)));
    const first = measured === -1 ? bootEvents.length : measured;
    if (measured === -1 && !isBoot(found, bootEvents)) throw new Error('another boot was measured into the TPM');
    for (const { imr, digest } of bootEvents.slice(first)) await tools.extendPcr(registerPcrs[imr]!, digest);
    return new TpmQuoter(tools, bootEvents, await attestationKey(tools));
  }

  /** SubjectPublicKeyInfo of the attestation key, DER: what a verifier must be told to trust. */
  get publicKey(): Buffer {
    return this.#publicKey;
  }

  bootEvents(): readonly TdxEvent[] {
    return this.#bootEvents;
  }

  extend(digest: Buffer): Promise<void> {
    return this.#tools.extendPcr(registerPcrs[3], digest);
  }

  async measurements(): Promise<Measurements> {
    const zero = Buffer.alloc(REGISTER_BYTES);
    const rtmrs = await readRegisters(this.#tools);
    return { mrtd: zero, rtmrs, mrConfigId: zero, mrOwner: zero, mrOwnerConfig: zero };
  }

  quote(reportData: Buffer): Promise<Buffer> {
    if (reportData.length !== REPORT_DATA_BYTES) throw new RangeError('report data has 64 bytes');
    return this.#tools.operation(async ({ path, read, run }) => {
      const qualifying = qualifyingData(reportData).toString('hex');
      await run(
        'tpm2_quote',
        ...['-Q', '-c', ATTESTATION_KEY_HANDLE, '-l', selection(quotedPcrs), '-q', qualifying],
        ...['-m', path('attest'), '-s', path('signature'), '-o', path('pcrs'), '-F', 'values'],
      );
      return encodeTpmQuote({
        attest: await read('attest'),
        signature: await read('signature'),
        publicKey: this.#publicKey,
        pcrs: splitPcrs(await read('pcrs'), quotedPcrs.length),
      });
    });
  }
}

async function readRegisters(tools: TpmTools): Promise<Rtmrs> {
  // The indices are ascending, as the values are.
  const [rtmr0, rtmr1, rtmr2, rtmr3] = await tools.readPcrs(registerPcrs);
  return [rtmr0!, rtmr1!, rtmr2!, rtmr3!];
}

/** Whether the registers of the boot hold exactly these events. */
function isBoot(found: Rtmrs, events: readonly TdxEvent[]): boolean {
  const wanted = replay(events);
  return [0, 1, 2].every((imr) => found[imr]!.equals(wanted[imr]!));
}
