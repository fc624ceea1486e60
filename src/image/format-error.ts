/** A file that is not what it should be. `message` says why, in words fit for the client who sent it. */
export class FormatError extends Error {
  constructor(reason: string, cause?: unknown) {
    super(reason, cause === undefined ? undefined : { cause });
    this.name = 'FormatError';
  }
}
