import { Transform, type TransformCallback } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import type { LogChannel, LogPiece } from './log-frames.ts';

/** How pieces of a log are written. */
export interface LogFormat {
  /** The bare content, not JSON around it. */
  readonly bare: boolean;
  /** As text, not as base64. */
  readonly text: boolean;
  /** Keep the colours and other control sequences of terminals. */
  readonly ansi: boolean;
}

/**
 * Control sequences of terminals (ECMA-48): commands to the terminal's system, such as titles; those with parameters, such as
 * colours; all others. What is cut off counts too. No character is looked at more than a few times, whatever is in a log:
 * `stripVTControlCharacters` takes a second for 16 KiB that somebody made for it.
 */
const sequences =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
  /\u001b\][^\u0007\u001b\u009c\n]*(?:\u0007|\u001b\\|\u009c)|(?:\u001b\[|\u009b)[0-?]*[ -/]{0,4}[@-~]?|\u001b[ -/]{0,4}[0-~]?/g;

/** The beginning of a sequence at the end of a piece; longer ones are not waited for. */
const openSequence =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
  /(?:\u001b\][^\u0007\u001b\u009c\n]{0,200}\u001b?|(?:\u001b\[|\u009b)[0-?]{0,40}[ -/]{0,4}|\u001b[ -/]{0,4})$/;

/** Writes {@link LogPiece}s: one JSON object a line, or their bare content. */
export class LogText extends Transform {
  readonly #format: LogFormat;
  readonly #texts = new Map<LogChannel, ChannelText>();

  constructor(format: LogFormat) {
    super({ writableObjectMode: true });
    this.#format = format;
  }

  override _transform({ channel, bytes }: LogPiece, _encoding: string, done: TransformCallback): void {
    const content = this.#format.text ? this.#text(channel).take(bytes) : bytes.toString('base64');
    done(null, content === '' ? '' : this.#wrap(channel, content));
  }

  override _flush(done: TransformCallback): void {
    for (const [channel, text] of this.#texts) {
      const rest = text.end();
      if (rest !== '') this.push(this.#wrap(channel, rest));
    }
    done();
  }

  #text(channel: LogChannel): ChannelText {
    let text = this.#texts.get(channel);
    if (!text) {
      text = new ChannelText(this.#format.ansi);
      this.#texts.set(channel, text);
    }
    return text;
  }

  #wrap(channel: LogChannel, message: string): string {
    return this.#format.bare ? message : `${JSON.stringify({ channel, message })}\n`;
  }
}

/** The text of one channel: characters and control sequences may be cut in two between pieces. */
class ChannelText {
  readonly #decoder = new StringDecoder('utf8');
  readonly #ansi: boolean;
  #held = '';

  constructor(ansi: boolean) {
    this.#ansi = ansi;
  }

  take(bytes: Buffer): string {
    const text = this.#held + this.#decoder.write(bytes);
    if (this.#ansi) return text;
    this.#held = openSequence.exec(text)?.[0] ?? '';
    return text.slice(0, text.length - this.#held.length).replace(sequences, '');
  }

  end(): string {
    const text = this.#held + this.#decoder.end();
    return this.#ansi ? text : text.replace(sequences, '');
  }
}
