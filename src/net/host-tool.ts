import { type CommandOptions, type CommandResult, runCommand, StartedCommand } from '../common/command.ts';

/** Where Debian keeps ip, nft and dnsmasq; daemons are often started without it in PATH. */
const systemPath = '/usr/sbin:/sbin:/usr/bin:/bin';

/** The environment for host tools: English messages, and found wherever the distribution puts them. */
export function hostToolEnv(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', PATH: process.env.PATH ? `${process.env.PATH}:${systemPath}` : systemPath };
}

/** Runs a host tool whose messages are read by this program. */
export function runHostTool(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return runCommand(command, args, { ...options, env: hostToolEnv() });
}

/** Milliseconds after a use until the next process is started, so that it is not in the way of whoever was served. */
const refillMs = 100;

/**
 * A host tool that reads what to do from its standard input. One process is kept waiting there: what it takes to start it
 * is no part of what it is used for.
 */
export class WaitingTool {
  readonly #command: string;
  readonly #args: readonly string[];
  #waiting: StartedCommand | null = null;
  #refill: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(command: string, args: readonly string[]) {
    this.#command = command;
    this.#args = args;
  }

  /** Rejects with CommandError unless it exits 0. */
  async run(input: string): Promise<CommandResult> {
    const waiting = this.#take();
    const started = waiting === null || waiting.hasEnded ? this.#start() : waiting;
    if (!this.#isClosed) this.#refillSoon();
    return started.finish(input);
  }

  close(): void {
    this.#isClosed = true;
    if (this.#refill !== null) clearTimeout(this.#refill);
    // Without anything to do it ends.
    void this.#take()
      ?.finish()
      .catch(() => {});
  }

  #start(): StartedCommand {
    return new StartedCommand(this.#command, this.#args, { env: hostToolEnv() });
  }

  #take(): StartedCommand | null {
    const waiting = this.#waiting;
    this.#waiting = null;
    return waiting;
  }

  #refillSoon(): void {
    this.#refill ??= setTimeout(() => {
      this.#refill = null;
      this.#waiting ??= this.#start().unref();
    }, refillMs).unref();
  }
}
