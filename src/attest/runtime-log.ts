import { appendFileSync, closeSync, mkdirSync, openSync, readFileSync, truncateSync } from 'node:fs';
import { dirname } from 'node:path';
import type { RuntimeEvent } from './events.ts';

/** A line of the log. */
interface Line {
  readonly event: string;
  /** Base64. */
  readonly payload: string;
  readonly version?: 2;
}

/**
 * The runtime events of this boot, one JSON object a line. The file belongs into a file system that is empty at each boot,
 * such as /run. It is read and written at once: a boot appends nine lines, and each trip to a thread and back is felt in an
 * emulated VM.
 */
export class RuntimeLog {
  readonly #path: string;
  readonly events: RuntimeEvent[];
  #size: number;

  private constructor(path: string, events: RuntimeEvent[], size: number) {
    this.#path = path;
    this.events = events;
    this.#size = size;
  }

  /** Reads the log, or begins one. A last line that was cut off by a crash is taken away: it was not measured yet. */
  static async open(path: string): Promise<RuntimeLog> {
    mkdirSync(dirname(path), { recursive: true });
    closeSync(openSync(path, 'a', 0o600));
    const content = readFileSync(path);
    const whole = content.subarray(0, content.lastIndexOf('\n') + 1);
    if (whole.length < content.length) truncateSync(path, whole.length);
    return new RuntimeLog(path, whole.toString().split('\n').slice(0, -1).map(parseLine), whole.length);
  }

  async append(event: RuntimeEvent): Promise<void> {
    const line: Line = {
      event: event.event,
      payload: event.payload.toString('base64'),
      ...(event.version === 2 ? { version: 2 } : {}),
    };
    const text = `${JSON.stringify(line)}\n`;
    try {
      appendFileSync(this.#path, text);
    } catch (error) {
      // Half a line, where the file system is full, must not stay before the next.
      truncateSync(this.#path, this.#size);
      throw error;
    }
    this.#size += Buffer.byteLength(text);
    this.events.push(event);
  }
}

function parseLine(text: string, index: number): RuntimeEvent {
  const { event, payload, version } = JSON.parse(text) as Partial<Line>;
  if (typeof event !== 'string' || typeof payload !== 'string')
    throw new Error(`line ${index + 1} of the runtime event log is not an event`);
  return { event, payload: Buffer.from(payload, 'base64'), ...(version === 2 ? { version } : {}) };
}
