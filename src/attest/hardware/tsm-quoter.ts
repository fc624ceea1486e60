import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TdxEvent } from '../events.ts';
import { RUNTIME_REGISTER } from '../events.ts';
import type { Measurements } from '../measurements.ts';
import { type Quoter, REPORT_DATA_BYTES } from '../quoter.ts';
import { parseQuote } from '../tdx-quote.ts';
import { parseCcel } from './ccel.ts';

/** Where the kernel has its interfaces, below a root that only tests set. */
const paths = {
  /** configfs-tsm: a directory for each reader, `inblob` in, `outblob` out (Linux 6.7). */
  report: 'sys/kernel/config/tsm/report',
  /** Extends by writing 48 bytes (Linux 6.16). */
  runtimeRegister: `sys/devices/virtual/misc/tdx_guest/measurements/rtmr${RUNTIME_REGISTER}:sha384`,
  eventLog: 'sys/firmware/acpi/tables/data/CCEL',
} as const;

/** Name of the provider of TDX quotes. */
const PROVIDER = 'tdx_guest';
/** Another reader of the same directory can come between request and quote. */
const ATTEMPTS = 3;

/**
 * A TDX guest's own hardware, through the kernel: configfs-tsm for quotes, sysfs for RTMR3, the firmware's event log.
 * Tested on a recorded tree of files; untested on hardware.
 */
export class TsmQuoter implements Quoter {
  readonly platform = 'tdx';
  readonly simulated = false;
  readonly keepsRegisters = true;
  readonly #root: string;
  readonly #report: string;
  readonly #bootEvents: readonly TdxEvent[];

  private constructor(root: string, report: string, bootEvents: readonly TdxEvent[]) {
    this.#root = root;
    this.#report = report;
    this.#bootEvents = bootEvents;
  }

  /** @throws Error when the reports are another platform's, FormatError for an event log that is none */
  static async open(root = '/'): Promise<TsmQuoter> {
    const report = join(root, paths.report, 'berth');
    await mkdir(report, { recursive: true });
    const provider = (await readFile(join(report, 'provider'), 'utf8')).trim();
    if (provider !== PROVIDER) throw new Error(`reports are made by ${provider}, not by ${PROVIDER}`);
    const events = parseCcel(await readFile(join(root, paths.eventLog)));
    return new TsmQuoter(
      root,
      report,
      events.filter(({ imr }) => imr !== RUNTIME_REGISTER),
    );
  }

  bootEvents(): readonly TdxEvent[] {
    return this.#bootEvents;
  }

  async extend(digest: Buffer): Promise<void> {
    await writeFile(join(this.#root, paths.runtimeRegister), digest, { flag: 'r+' });
  }

  async measurements(): Promise<Measurements> {
    return parseQuote(await this.quote(Buffer.alloc(REPORT_DATA_BYTES))).report;
  }

  async quote(reportData: Buffer): Promise<Buffer> {
    if (reportData.length !== REPORT_DATA_BYTES) throw new RangeError('report data has 64 bytes');
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await writeFile(join(this.#report, 'inblob'), reportData);
      const quote = await readFile(join(this.#report, 'outblob'));
      if (parseQuote(quote).report.reportData.equals(reportData)) return quote;
    }
    throw new Error('the kernel gives quotes of other report data');
  }
}
