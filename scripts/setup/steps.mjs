/** Progress of set-up: every step says what it does while it does it, and how long it took. */

import { spawn } from 'node:child_process';

/** Seconds between two progress lines where the output is not a terminal. */
const quietInterval = 10;
/** Lines of a failed command's output that are shown. */
const tailLines = 80;

/** A set-up failure whose message tells the user what to do; shown without a stack. */
export class SetupError extends Error {}

/**
 * Runs steps one after the other and keeps their times.
 *
 * @example const report = await new Steps().run('packages', (step) => step.command('apt-get', ['update']));
 */
export class Steps {
  /** `{ step, seconds }` in order; seconds are rounded to milliseconds. */
  timings = [];
  #output = process.stderr;

  /** Runs `work(step)` under a heading. `work` may call `step.progress(text)` and `step.command(...)`. */
  async run(name, work) {
    const started = performance.now();
    const seconds = () => (performance.now() - started) / 1000;
    const line = new ProgressLine(this.#output, name, seconds);
    try {
      const result = await work({
        progress: (text) => line.update(text),
        command: (command, args, options) => runCommand(command, args, line, options),
      });
      this.timings.push({ step: name, seconds: Math.round(seconds() * 1000) / 1000 });
      return result;
    } finally {
      line.end();
    }
  }
}

/** One line that is rewritten on a terminal, or repeated every few seconds in a log. Silent when a step is quick. */
class ProgressLine {
  #output;
  #name;
  #seconds;
  #text = '';
  #timer;
  #shown = false;
  #lastLog = 0;

  constructor(output, name, seconds) {
    this.#output = output;
    this.#name = name;
    this.#seconds = seconds;
    this.#timer = setInterval(() => this.#draw(), 500);
  }

  update(text) {
    const first = this.#text === '';
    this.#text = text.replaceAll(/[^\x20-\x7e]/g, ' ').trim();
    if (first) this.#draw(true);
  }

  end() {
    clearInterval(this.#timer);
    if (!this.#shown) return;
    if (this.#output.isTTY) this.#output.write('\r\x1b[K');
    this.#output.write(`${this.#name}: ${this.#seconds().toFixed(1)} s\n`);
  }

  #draw(force = false) {
    if (this.#text === '') return;
    const seconds = this.#seconds();
    if (this.#output.isTTY) {
      const width = Math.max(20, (this.#output.columns ?? 80) - 1);
      this.#output.write(`\r\x1b[K${`${this.#name} (${seconds.toFixed(0)} s): ${this.#text}`.slice(0, width)}`);
    } else if (force || seconds - this.#lastLog >= quietInterval) {
      this.#output.write(`${this.#name} (${seconds.toFixed(0)} s): ${this.#text}\n`);
      this.#lastLog = seconds;
    }
    this.#shown = true;
  }
}

/** Runs a command, showing its last line as progress; a failure carries the end of its output. */
function runCommand(command, args, line, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    const tail = [];
    const onData = (chunk) => {
      for (const text of chunk.toString('utf8').split(/[\r\n]+/)) {
        if (text.trim() === '') continue;
        line.update(text);
        tail.push(text);
        if (tail.length > tailLines) tail.shift();
      }
    };
    child.stdout.on('data', onData);
    child.stderr.on('data', onData);
    child.on('error', (error) => reject(new SetupError(`${command} could not be run: ${error.message}`)));
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new SetupError(`${command} ${args.join(' ')} failed (${code}):\n${tail.join('\n')}`));
    });
  });
}
