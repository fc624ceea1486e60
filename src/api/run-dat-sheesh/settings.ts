/** Limits of this dialect, with the originals' values as defaults. */

export interface Limits {
  readonly maxAllowIps: number;
  readonly defaultTimeoutMs: number;
  readonly maxExecTimeoutMs: number;
  readonly maxRunTimeoutMs: number;
  /** Bytes kept of each output stream of a command. */
  readonly maxOutputBytes: number;
  /** Bytes of JSON a program may hand back through `result`. */
  readonly maxResultBytes: number;
  /** Bytes of a compressed upload, inclusive. */
  readonly maxUploadBytes: number;
  readonly maxUploadEntries: number;
  /** Bytes of all files in an upload together. */
  readonly maxUnpackedBytes: number;
}

export const defaultLimits: Limits = Object.freeze({
  maxAllowIps: 64,
  defaultTimeoutMs: 30_000,
  maxExecTimeoutMs: 120_000,
  maxRunTimeoutMs: 120_000,
  maxOutputBytes: 1_000_000,
  maxResultBytes: 1024 * 1024,
  maxUploadBytes: 10 * 1024 * 1024,
  maxUploadEntries: 10_000,
  maxUnpackedBytes: 250 * 1024 * 1024,
});

/** Requests per minute and client; 0 switches a bucket off. */
export interface RateLimits {
  readonly createVm: number;
  readonly exec: number;
  readonly runTs: number;
  readonly runJs: number;
  readonly upload: number;
  readonly download: number;
  /** Log-in attempts per client address. */
  readonly login: number;
  /** One bucket for all other routes together. */
  readonly others: number;
}

export const defaultRateLimits: RateLimits = Object.freeze({
  createVm: 30,
  exec: 60,
  runTs: 60,
  runJs: 60,
  upload: 30,
  download: 60,
  login: 10,
  others: 120,
});

/** Largest JSON bodies, bytes. */
export const bodyLimits = Object.freeze({
  standard: 256 * 1024,
  metadata: 64 * 1024,
  program: 1024 * 1024,
  login: 16 * 1024,
});
