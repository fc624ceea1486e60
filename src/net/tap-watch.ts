import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { BerthError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import { hostToolEnv } from './host-tool.ts';

const program = fileURLToPath(new URL('tap-watch.pl', import.meta.url));

/** Milliseconds the helper has to begin to watch a tap. */
const answerMs = 5000;
/** Milliseconds without a new helper after one that died young. */
const pauseMs = 10_000;

interface Wish {
  readonly callback: () => void;
  readonly watched: PromiseWithResolvers<void>;
}

/** The helper process, and the taps it watches. */
interface Helper {
  readonly process: ChildProcess;
  readonly send: (line: string) => void;
  readonly startedAt: number;
  readonly wishes: Map<string, Wish>;
  readonly ended: Promise<void>;
}

/**
 * Tells of the next packet for a tap, by one helper process (see tap-watch.pl) for all of them, which runs from the first
 * wish on and ends with this one. Should it die, packets may have been missed: then every wish counts as fulfilled.
 */
export class TapWatch {
  readonly #log: Log;
  #helper: Helper | null = null;
  #notBefore = Number.NEGATIVE_INFINITY;

  constructor(log: Log) {
    this.#log = log;
  }

  /**
   * Calls back at the next packet for each of `taps`. Resolves when no packet can be missed, with a function that takes the
   * wish back. A second wish for a tap takes the place of the first. Rejects with `network_failed`.
   */
  async onNextPacket(taps: readonly string[], callback: () => void): Promise<() => void> {
    const helper = this.#running();
    const wishes = taps.map((tap): [string, Wish] => [tap, { callback, watched: Promise.withResolvers() }]);
    for (const [tap, wish] of wishes) {
      helper.wishes.set(tap, wish);
      helper.send(`+ ${tap}`);
    }
    const takeBack = (): void => {
      for (const [tap, wish] of wishes) {
        if (helper.wishes.get(tap) !== wish) continue;
        helper.wishes.delete(tap);
        helper.send(`- ${tap}`);
      }
    };
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error('no answer')), answerMs);
    try {
      await Promise.race([Promise.all(wishes.map(([, { watched }]) => watched.promise)), late.promise]);
      return takeBack;
    } catch (error) {
      takeBack();
      throw new BerthError('network_failed', {}, error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the helper; nobody is called back any more. */
  async close(): Promise<void> {
    const helper = this.#helper;
    if (helper === null) return;
    this.#helper = null;
    const wishes = [...helper.wishes.values()];
    helper.wishes.clear();
    for (const { watched } of wishes) watched.reject(new Error('the network is closed'));
    helper.process.kill();
    await helper.ended;
  }

  #running(): Helper {
    if (this.#helper !== null) return this.#helper;
    if (performance.now() < this.#notBefore)
      throw new BerthError('network_failed', {}, new Error('the tap watch does not run'));
    // In its own session: signals to the daemon's terminal are not for it.
    const process = spawn('perl', [program], { cwd: '/', detached: true, stdio: 'pipe', env: hostToolEnv() });
    const ended = Promise.withResolvers<void>();
    const helper: Helper = {
      process,
      send: (line) => process.stdin.write(`${line}\n`),
      startedAt: performance.now(),
      wishes: new Map(),
      ended: ended.promise,
    };
    this.#helper = helper;
    const end = (how: unknown): void => {
      ended.resolve();
      this.#onEnd(helper, how);
    };
    process.once('error', end);
    process.once('exit', (code, signal) => end(signal ?? code));
    // It has died, which is told by its exit.
    process.stdin.on('error', () => {});
    createInterface({ input: process.stdout }).on('line', (line) => this.#onLine(helper, line));
    createInterface({ input: process.stderr }).on('line', (line) =>
      this.#log.warn({ line: line.slice(0, 500) }, 'tap watch'),
    );
    return helper;
  }

  #onLine(helper: Helper, line: string): void {
    const tap = line.slice(2);
    const wish = helper.wishes.get(tap);
    if (wish === undefined) return;
    if (line.startsWith('+')) wish.watched.resolve();
    else if (line.startsWith('?')) wish.watched.reject(new Error(`there is no ${tap} to watch`));
    else if (line.startsWith('!')) {
      helper.wishes.delete(tap);
      wish.callback();
    }
  }

  #onEnd(helper: Helper, how: unknown): void {
    if (this.#helper !== helper) return;
    this.#helper = null;
    if (performance.now() - helper.startedAt < pauseMs) this.#notBefore = performance.now() + pauseMs;
    const wishes = [...helper.wishes.values()];
    helper.wishes.clear();
    this.#log.warn({ how, watched: wishes.length }, 'the tap watch ended');
    for (const { watched, callback } of wishes) {
      watched.reject(new Error('the tap watch ended'));
      callback();
    }
  }
}
