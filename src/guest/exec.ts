/** A program running in a guest: the frames of its streams, taken apart with backpressure. */

import type { ClientHttp2Stream } from 'node:http2';
import { Readable, Writable } from 'node:stream';

import { BerthError } from '../common/errors.ts';
import { FrameReader } from './frames.ts';
import type { GuestExec, GuestExecExit, GuestExecRequest } from './guest.ts';
import { MAX_EXEC_BYTES } from './limits.ts';
import { frame, frameHeader, Parameters, tag } from './protocol.ts';
import { awaitAnswer, cancel, guestText, streamFailure } from './session.ts';

/** How much longer than its timeout a program may stay unaccounted for before the guest counts as lost. */
const TIMEOUT_SLACK_MS = 30_000;
/** Longest timer Node has. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Throws `guest_rejected` when the guest would refuse it. */
export function encodeExec(request: GuestExecRequest): Buffer {
  const parameters = new Parameters();
  for (const argument of request.argv) parameters.add(tag.arg, argument);
  for (const [name, value] of Object.entries(request.env)) parameters.add(tag.env, `${name}=${value}`);
  parameters.add(tag.cwd, request.cwd).add(tag.uid, request.uid).add(tag.gid, request.gid);
  if (request.timeoutMs !== null) parameters.add(tag.timeoutMs, Math.max(1, Math.ceil(request.timeoutMs)));
  if (request.stdin) parameters.add(tag.stdin, '');
  if (request.pty) parameters.add(tag.pty, windowSize(request.pty.cols, request.pty.rows)).add(tag.stdin, '');
  const encoded = parameters.encode();
  if (encoded.length > MAX_EXEC_BYTES)
    throw new BerthError('guest_rejected', { reason: 'arguments and environment are too long' });
  return encoded;
}

function windowSize(cols: number, rows: number): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt16BE(Math.min(65535, Math.max(0, Math.trunc(cols))), 0);
  size.writeUInt16BE(Math.min(65535, Math.max(0, Math.trunc(rows))), 2);
  return size;
}

function parseExit(payload: Buffer): GuestExecExit {
  const status = payload.readUInt8(1);
  const signalled = payload.readUInt8(0) === 1;
  return {
    exitCode: signalled ? null : status,
    signal: signalled ? status : null,
    timedOut: payload.readUInt8(2) === 1,
    durationMicros: Number(payload.readBigUInt64BE(3)),
  };
}

export class RunningExec implements GuestExec {
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly stdin: Writable;
  readonly exit: Promise<GuestExecExit>;
  readonly #settle = Promise.withResolvers<GuestExecExit>();
  /** The stream once the request has been sent; rejects when it could not be. */
  readonly #stream: Promise<ClientHttp2Stream>;
  readonly #full = new Set<Readable>();
  #timer: NodeJS.Timeout | undefined;
  #settled = false;

  constructor(stream: Promise<ClientHttp2Stream>, request: GuestExecRequest) {
    this.#stream = stream;
    this.exit = this.#settle.promise;
    // Whoever only reads the streams need not look at the exit.
    this.exit.catch(() => {});
    this.stdout = this.#output();
    this.stderr = this.#output();
    this.stdin = this.#input(request.stdin === true || request.pty !== undefined);
    stream.then(
      (opened) => this.#follow(opened, request.timeoutMs),
      (error: unknown) => this.#fail(error),
    );
  }

  resize(cols: number, rows: number): void {
    this.#control(frame.resize, windowSize(cols, rows));
  }

  kill(): void {
    this.#control(frame.kill, Buffer.alloc(0));
  }

  #output(): Readable {
    const output: Readable = new Readable({
      read: () => {
        if (this.#full.delete(output)) this.#resume();
      },
      destroy: (error, done) => {
        // Nobody reads it any more: what still comes is dropped and must not hold up the other stream.
        if (this.#full.delete(output)) this.#resume();
        done(error);
      },
    });
    return output;
  }

  #input(open: boolean): Writable {
    const input = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        if (!open) {
          done(new Error('standard input was not asked for'));
          return;
        }
        this.#stream.then((stream) => {
          stream.write(frameHeader(frame.stdin, chunk.length));
          stream.write(chunk, done);
        }, done);
      },
      final: (done) => {
        if (open) this.#control(frame.stdinEnd, Buffer.alloc(0));
        done();
      },
    });
    // A program that ends without reading its input is no error of the caller's.
    input.on('error', () => {});
    return input;
  }

  #control(type: number, payload: Buffer): void {
    this.#stream.then(
      (stream) => {
        if (stream.writable) stream.write(Buffer.concat([frameHeader(type, payload.length), payload]));
      },
      () => {
        // The failure is reported by `exit`.
      },
    );
  }

  #resume(): void {
    if (this.#full.size > 0) return;
    this.#stream.then(
      (stream) => stream.resume(),
      () => {},
    );
  }

  #follow(stream: ClientHttp2Stream, timeoutMs: number | null): void {
    let exit: GuestExecExit | BerthError | null = null;
    const reader = new FrameReader((type, payload) => {
      if (type === frame.stdout) this.#deliver(stream, this.stdout, payload);
      else if (type === frame.stderr) this.#deliver(stream, this.stderr, payload);
      else if (type === frame.exit) exit = parseExit(payload);
      else if (type === frame.execFailed)
        exit = new BerthError('guest_rejected', { reason: guestText(payload.toString('utf8')) });
    });
    const take = (chunk: Buffer): void => {
      try {
        reader.push(chunk);
      } catch (error) {
        // What no guest-init sends: the session is not to be trusted with anything more.
        this.#fail(new BerthError('guest_interrupted', {}, error));
        cancel(stream);
      }
    };
    awaitAnswer(stream, () => {
      stream.on('data', take);
      const conclude = (how: GuestExecExit | BerthError): void => {
        if (how instanceof BerthError) this.#fail(how);
        else this.#finish(how);
      };
      stream.on('end', () => {
        if (exit === null) return;
        stream.end();
        conclude(exit);
      });
      // The frame that tells how it ended is the last: with it nothing is missing, however the stream came to its end.
      stream.on('close', () => conclude(exit ?? streamFailure(stream)));
    }).catch((error: unknown) => this.#fail(error));
    if (timeoutMs !== null) {
      const patience = Math.min(timeoutMs + TIMEOUT_SLACK_MS, MAX_TIMER_MS);
      this.#timer = setTimeout(() => cancel(stream), patience);
    }
  }

  #deliver(stream: ClientHttp2Stream, output: Readable, payload: Buffer): void {
    if (output.destroyed || output.push(payload)) return;
    this.#full.add(output);
    stream.pause();
  }

  #end(): void {
    clearTimeout(this.#timer);
    for (const output of [this.stdout, this.stderr]) if (!output.destroyed && !output.readableEnded) output.push(null);
    this.stdin.destroy();
  }

  #finish(exit: GuestExecExit): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#end();
    this.#settle.resolve(exit);
  }

  #fail(error: unknown): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#end();
    this.#settle.reject(error);
  }
}
