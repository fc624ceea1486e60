/** From a raw byte stream to the guest to a fresh session's byte stream. */

import { Duplex } from 'node:stream';

import { FrameMeter } from './frame-meter.ts';
import { echo, makeNonce, marker, Seeker, Stuffer } from './resync.ts';

/**
 * A marker may be lost when the guest's driver resets the port while it starts; the guest ignores repetitions of the
 * marker that it has answered.
 */
const RESEND_MS = 1000;

/**
 * The stream of one session: outgoing bytes are stuffed, incoming ones passed on as they are, from the guest's echo on when
 * that is still to come, and as long as they are no flood. When the channel ends or breaks, `isBroken` is set and `broken`
 * emitted, and nothing else: Node's HTTP/2 brings the process down when a stream ends under it while it begins to write.
 * Whoever has the session ends that.
 */
export class SessionStream extends Duplex {
  readonly #raw: Duplex;
  readonly #stuffer = new Stuffer();
  #awaited: Seeker | null;
  readonly #meter = new FrameMeter();
  #isBroken = false;
  /** Set while the guest is held up. */
  #hold: NodeJS.Timeout | null = null;

  /** @param awaited finds the echo that the session begins with; null when it was there */
  constructor(raw: Duplex, awaited: Seeker | null, first?: Buffer) {
    super();
    this.#raw = raw;
    this.#awaited = awaited;
    if (first && first.length > 0) this.#take(first);
    raw.on('data', (chunk: Buffer) => {
      const bytes = this.#fromEcho(chunk);
      if (bytes.length > 0) this.#take(bytes);
    });
    const breakOff = () => this.#breakOff();
    // An error is followed by `close`.
    raw
      .on('end', breakOff)
      .on('close', breakOff)
      .on('error', () => {});
    if (raw.destroyed) breakOff();
    raw.pause();
  }

  /** The guest will answer something: a request has been made. */
  expectAnswer(): void {
    this.#meter.expectAnswer();
  }

  get isBroken(): boolean {
    return this.#isBroken;
  }

  override _read(): void {
    if (this.#hold === null) this.#raw.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#send(this.#stuffer.push(chunk), done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#send(
      chunks.flatMap(({ chunk }) => this.#stuffer.push(chunk)),
      done,
    );
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#raw.destroyed) done();
    else this.#raw.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#hold !== null) clearTimeout(this.#hold);
    this.#raw.destroy();
    done(error);
  }

  #fromEcho(chunk: Buffer): Buffer {
    if (this.#awaited === null) return chunk;
    const bytes = this.#awaited.push(chunk);
    if (bytes !== null) this.#awaited = null;
    return bytes ?? Buffer.alloc(0);
  }

  #take(chunk: Buffer): void {
    if (this.#isBroken) return;
    const waitMs = this.#meter.push(chunk);
    if (waitMs === null) {
      // It would keep the daemon busy with nothing; the next call begins anew with it.
      this.#raw.destroy();
      this.#breakOff();
      return;
    }
    if (waitMs > 0) {
      this.#hold ??= setTimeout(() => {
        this.#hold = null;
        this.#raw.resume();
      }, waitMs);
    }
    if (!this.push(chunk) || waitMs > 0) this.#raw.pause();
  }

  #breakOff(): void {
    if (this.#isBroken) return;
    this.#isBroken = true;
    this.emit('broken');
  }

  #send(parts: readonly Buffer[], done: (error?: Error | null) => void): void {
    if (this.#raw.destroyed) {
      done();
      return;
    }
    this.#meter.sent(parts.reduce((sum, part) => sum + part.length, 0));
    this.#raw.cork();
    for (const [index, part] of parts.entries()) {
      if (index === parts.length - 1) this.#raw.write(part, () => done());
      else this.#raw.write(part);
    }
    this.#raw.uncork();
  }
}

/**
 * Begins a session without waiting for the guest: what is sent follows the marker at once. For a guest that has its port
 * open, running or not: one that boots may lose the marker, and with it everything behind.
 */
export function beginSessionAhead(raw: Duplex): SessionStream {
  const nonce = makeNonce();
  raw.write(marker(nonce));
  return new SessionStream(raw, new Seeker(echo(nonce)));
}

/**
 * Begins a session: sends the marker and drops what an earlier session left behind, until the guest's echo. Rejects, with
 * the channel destroyed, when it closes or the signal fires first.
 */
export function beginSession(raw: Duplex, signal: AbortSignal): Promise<SessionStream> {
  const { promise, resolve, reject } = Promise.withResolvers<SessionStream>();
  const nonce = makeNonce();
  const seeker = new Seeker(echo(nonce));
  const send = (): void => {
    raw.write(marker(nonce));
  };
  const timer = setInterval(send, RESEND_MS);

  const settle = (): void => {
    clearInterval(timer);
    signal.removeEventListener('abort', onAbort);
    raw.off('data', onData);
    raw.off('close', onClose);
    raw.off('error', onError);
  };
  const fail = (error: Error): void => {
    settle();
    // A late error of a stream that nobody uses any more is of no interest.
    raw.on('error', () => {});
    raw.destroy();
    reject(error);
  };
  const onData = (chunk: Buffer): void => {
    const rest = seeker.push(chunk);
    if (rest === null) return;
    raw.pause();
    settle();
    resolve(new SessionStream(raw, null, rest));
  };
  const onClose = (): void => fail(new Error('the channel closed before the guest answered'));
  const onError = (error: Error): void => fail(error);
  const onAbort = (): void => fail(new Error('the guest did not answer in time'));

  raw.on('data', onData);
  raw.on('close', onClose);
  raw.on('error', onError);
  if (signal.aborted || raw.destroyed) onAbort();
  else {
    signal.addEventListener('abort', onAbort);
    send();
  }
  return promise;
}
