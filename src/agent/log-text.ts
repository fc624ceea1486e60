import { Transform, type TransformCallback } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { stripVTControlCharacters } from 'node:util';
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

/** The beginning of a control sequence at the end of a piece; longer ones are not waited for. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
const openSequence = /[\u001b\u009b][[\]()#;?0-9]{0,40}$/;

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
    return stripVTControlCharacters(text.slice(0, text.length - this.#held.length));
  }

  end(): string {
    const text = this.#held + this.#decoder.end();
    return this.#ansi ? text : stripVTControlCharacters(text);
  }
}
