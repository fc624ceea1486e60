import { type CommandOptions, type CommandResult, runCommand } from '../common/command.ts';

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
