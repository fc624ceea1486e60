import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../common/command.ts';

/** PCR indices, and the bank that all of Berth's measurements are in: SHA-384, as a TDX register is. */
const BANK = 'sha384';

/** A value read from a TPM, or made by one, and where its commands find it. */
interface Scratch {
  /** Path of a file in a directory that is there for one operation. */
  path(name: string): string;
  read(name: string): Promise<Buffer>;
  write(name: string, content: Uint8Array): Promise<void>;
  /** @returns standard output */
  run(command: string, ...args: string[]): Promise<string>;
  /** The same with something on standard input. */
  runWith(input: string, command: string, ...args: string[]): Promise<string>;
}

/**
 * A TPM 2.0, spoken to by Debian's tpm2-tools. Operations run one after another: without a resource manager a TPM has room
 * for three objects.
 */
export class TpmTools {
  readonly #tcti: string;
  #last: Promise<unknown> = Promise.resolve();

  /** @param tcti where the TPM is: `device:/dev/tpmrm0`, `swtpm:path=/run/swtpm.sock` */
  constructor(tcti: string) {
    this.#tcti = tcti;
  }

  /** Runs commands with a directory of their own, and leaves no object in the TPM. */
  operation<T>(body: (scratch: Scratch) => Promise<T>): Promise<T> {
    const next = this.#last.then(() => this.#operation(body));
    this.#last = next.catch(() => {});
    return next;
  }

  /** Values of PCRs, 48 bytes each, in the order of ascending indices. */
  readPcrs(indices: readonly number[]): Promise<Buffer[]> {
    return this.operation(async ({ path, read, run }) => {
      await run('tpm2_pcrread', '-Q', selection(indices), '-o', path('pcrs'));
      return splitPcrs(await read('pcrs'), indices.length);
    });
  }

  async extendPcr(index: number, digest: Buffer): Promise<void> {
    await this.operation(({ run }) => run('tpm2_pcrextend', `${index}:${BANK}=${digest.toString('hex')}`));
  }

  async #operation<T>(body: (scratch: Scratch) => Promise<T>): Promise<T> {
    const directory = await mkdtemp(join(tmpdir(), 'berth-tpm-'));
    const path = (name: string): string => join(directory, name);
    const runWith = async (input: string, command: string, ...args: string[]): Promise<string> => {
      const { stdout } = await runCommand(command, args, {
        input,
        cwd: directory,
        env: { PATH: process.env.PATH, TPM2TOOLS_TCTI: this.#tcti, TSS2_LOG: 'all+NONE' },
      });
      return stdout;
    };
    const run = (command: string, ...args: string[]): Promise<string> => runWith('', command, ...args);
    try {
      return await body({
        path,
        run,
        runWith,
        read: (name) => readFile(path(name)),
        write: (name, content) => writeFile(path(name), content),
      });
    } finally {
      try {
        await run('tpm2_flushcontext', '-t');
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    }
  }
}

/** PCRs as the tools name them, ascending. */
export function selection(indices: readonly number[]): string {
  return `${BANK}:${indices.toSorted((a, b) => a - b).join(',')}`;
}

/** Cuts the concatenated values of PCRs. */
export function splitPcrs(values: Buffer, count: number): Buffer[] {
  const bytes = 48;
  if (values.length !== count * bytes) throw new Error(`the TPM has no ${BANK} bank`);
  return Array.from({ length: count }, (_, index) => values.subarray(index * bytes, (index + 1) * bytes));
}
