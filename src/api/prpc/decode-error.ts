import { BerthError } from '../../common/errors.ts';

/** A request that cannot be read as its message type. The text is fit for the sender. */
export class DecodeError extends BerthError {
  constructor(reason: string) {
    super('invalid_argument', { reason });
    this.name = 'DecodeError';
  }
}
