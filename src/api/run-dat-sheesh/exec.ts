import { parseEnvironmentObject } from './environment.ts';
import { DialectError } from './errors.ts';
import {
  baseEnvironment,
  type CommandGuest,
  type CommandOutcome,
  type GuestCommand,
  instantTimeout,
  runGuestCommand,
} from './guest-command.ts';
import type { ExecBody } from './schemas.ts';
import type { Limits } from './settings.ts';
import { timeLimit } from './time-limit.ts';
import { resolveInWorkspace, workspace } from './workspace-path.ts';

/** Linux takes no single argument of 128 KiB or more; longer scripts go through standard input. */
const maxArgumentBytes = 100_000;

const enterDirectory = 'cd -- "$1" 2>/dev/null || cd /workspace 2>/dev/null || cd /; ';
// A login shell as promised; images without bash have some other sh. $2 is the script.
const shellWithArgument = `${enterDirectory}if [ -x /bin/bash ]; then exec /bin/bash -lc -- "$2"; else exec /bin/sh -lc -- "$2"; fi`;
const evaluateInput = `'eval "$(cat <&3)" 3<&-'`;
const shellWithInput =
  `${enterDirectory}exec 3<&0 </dev/null; ` +
  `if [ -x /bin/bash ]; then exec /bin/bash -lc -- ${evaluateInput}; else exec /bin/sh -lc -- ${evaluateInput}; fi`;

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * A login shell's profile sets PATH anew. A caller that asked for a PATH gets it back, on the script's first line so
 * that line numbers in messages stay right.
 */
function withCallersPath(script: string, path: string | undefined): string {
  return path === undefined ? script : `export PATH=${shellQuote(path)}; ${script}`;
}

/** What is run in the guest for a request; throws 400 for what can run nowhere. */
export function shellCommand(body: ExecBody, timeoutMs: number): GuestCommand {
  if (body.cmd.includes('\0')) throw new DialectError(400, 'Invalid cmd');
  const { PATH: callersPath, ...env } = parseEnvironmentObject(body.env ?? {});
  const cwd = resolveInWorkspace(body.cwd ?? workspace) ?? workspace;
  const script = withCallersPath(body.cmd, callersPath);
  const common = { env: { ...baseEnvironment, ...env }, timeoutMs };
  if (Buffer.byteLength(script) <= maxArgumentBytes) {
    return { ...common, argv: ['/bin/sh', '-c', shellWithArgument, 'sh', cwd, script] };
  }
  return { ...common, argv: ['/bin/sh', '-c', shellWithInput, 'sh', cwd], input: script };
}

/** Runs a shell command as the sandbox's user. See {@link runGuestCommand} for what it rejects with. */
export async function execInGuest(guest: CommandGuest, body: ExecBody, limits: Limits): Promise<CommandOutcome> {
  const timeoutMs = timeLimit(body.timeoutMs, limits.defaultTimeoutMs, limits.maxExecTimeoutMs, 'maxExecTimeoutMs');
  const command = shellCommand(body, timeoutMs);
  if (timeoutMs <= 0) return instantTimeout;
  return runGuestCommand(guest, command, limits.maxOutputBytes);
}
