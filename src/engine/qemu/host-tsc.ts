import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { dataAddress, program, readTimeStampCounter, store32, syscall } from './tiny-program.ts';

const CLOCK_MONOTONIC = 1;
const sleepNanoseconds = 50_000_000;
const attempts = 5;
/** A pair of readings further apart than this was interrupted. */
const maxPairCycles = 100_000n;

const result = { before: 0, time: 8, after: 24, bytes: 32 } as const;
const second = dataAddress + result.bytes;
const sleepTime = dataAddress + 2 * result.bytes;

/** Reads counter and clock, sleeps, reads both again, and writes the two results. */
const measuring = program(
  store32(sleepTime + 8, sleepNanoseconds),
  ...reading(dataAddress),
  syscall('nanosleep', sleepTime, 0),
  ...reading(second),
  syscall('write', 1, dataAddress, 2 * result.bytes),
  syscall('exit', 0),
);

/**
 * The rate of the host's time stamp counter in kHz, to some 20 parts in a million. QEMU without KVM shows guests this very
 * counter but no clock to calibrate it with, and a Linux guest that guesses loses time or hangs at boot.
 *
 * @param directory where the measuring program is put for the moment it runs
 */
export async function measureTscKhz(directory: string): Promise<number> {
  const path = join(directory, `tsc-${randomBytes(6).toString('hex')}`);
  try {
    await writeFile(path, measuring, { mode: 0o700, flag: 'wx' });
    let best: TscReading | null = null;
    for (let attempt = 0; attempt < attempts; attempt++) {
      const { stdout } = await promisify(execFile)(path, [], { encoding: 'buffer', timeout: 5000, maxBuffer: 4096 });
      const reading = parseTscReading(stdout);
      if (best === null || reading.uncertainCycles < best.uncertainCycles) best = reading;
      if (reading.uncertainCycles < maxPairCycles) break;
    }
    return best!.khz;
  } finally {
    await rm(path, { force: true });
  }
}

export interface TscReading {
  readonly khz: number;
  /** Cycles between counter and clock readings: how much `khz` may be wrong. */
  readonly uncertainCycles: bigint;
}

/** Understands what the measuring program writes. Throws RangeError when it makes no sense. */
export function parseTscReading(bytes: Buffer): TscReading {
  if (bytes.length !== 2 * result.bytes) throw new RangeError('incomplete counter reading');
  const [first, last] = [bytes.subarray(0, result.bytes), bytes.subarray(result.bytes)].map((part) => {
    const before = part.readBigUInt64LE(result.before);
    const after = part.readBigUInt64LE(result.after);
    const time = part.readBigInt64LE(result.time) * 1_000_000_000n + part.readBigInt64LE(result.time + 8);
    return { cycles: (before + after) / 2n, spread: after - before, time };
  }) as [Moment, Moment];
  const nanoseconds = last.time - first.time;
  const cycles = last.cycles - first.cycles;
  if (nanoseconds <= 0n || cycles <= 0n) throw new RangeError('the counter does not advance');
  return { khz: Number((cycles * 1_000_000n) / nanoseconds), uncertainCycles: first.spread + last.spread };
}

interface Moment {
  readonly cycles: bigint;
  readonly spread: bigint;
  readonly time: bigint;
}

function reading(address: number) {
  return [
    readTimeStampCounter(address + result.before),
    syscall('clock_gettime', CLOCK_MONOTONIC, address + result.time),
    readTimeStampCounter(address + result.after),
  ];
}
