import { type CommandOptions, type CommandResult, runCommand, StartedCommand } from '../common/command.ts';
import { Standby } from '../common/standby.ts';

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

/**
 * A host tool that reads what to do from its standard input. One process stands by there: what it takes to start it is no
 * part of what it is used for.
 */
export class WaitingTool {
  readonly #standby: Standby<StartedCommand>;

  constructor(command: string, args: readonly string[]) {
    this.#standby = new Standby({
      start: () => new StartedCommand(command, args, { env: hostToolEnv() }).unref(),
      hasEnded: (tool) => tool.hasEnded,
      // Without anything to do it ends.
      dismiss: (tool) => void tool.finish().catch(() => {}),
    });
  }

  /** Rejects with CommandError unless it exits 0. */
  async run(input: string): Promise<CommandResult> {
    return (await this.#standby.take()).finish(input);
  }

  close(): void {
    this.#standby.close();
  }
}
