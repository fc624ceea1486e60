/** Runs one command in a guest and gathers what it wrote. Nothing here is ever repeated: it may have run. */

import { BerthError } from '../../common/errors.ts';
import type { GuestClient, GuestExecRequest } from '../../guest/guest.ts';
import { drain, OutputCollector, passThrough, type StreamFilter } from './output.ts';

/** The user that commands run as. */
export const sandboxUser = Object.freeze({ uid: 1000, gid: 1000 });

export const guestPath = '/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin';

/** What a command finds in its environment unless its caller says otherwise. */
export const baseEnvironment: Readonly<Record<string, string>> = Object.freeze({
  PATH: guestPath,
  HOME: '/home/user',
  USER: 'user',
  LOGNAME: 'user',
  SHELL: '/bin/sh',
  LANG: 'C.UTF-8',
  TMPDIR: '/tmp',
});

/** How long past its limit a command may take to be killed before the guest itself is given up on. */
const killGraceMs = 15_000;

/** What is needed of a guest to run commands in it. */
export type CommandGuest = Pick<GuestClient, 'exec'>;

export interface GuestCommand {
  readonly argv: GuestExecRequest['argv'];
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  /** Written to standard input; omitted: the command reads from /dev/null. */
  readonly input?: string;
}

export interface CommandOutcome {
  /** -1 when the command was ended by a signal or the time limit. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Part of a stream was not kept. */
  readonly truncated: boolean;
  readonly timedOut: boolean;
  /** From the start of the process to its end, as the guest measured it. */
  readonly guestMicros: number;
}

const timeoutNotice = '\nTimeout exceeded';

/** What a limit of nothing gives: the command is not started at all. */
export const instantTimeout: CommandOutcome = Object.freeze({
  exitCode: -1,
  stdout: '',
  stderr: timeoutNotice,
  truncated: false,
  timedOut: true,
  guestMicros: 0,
});

/**
 * Resolves however the command ended. Rejects with `guest_interrupted`, `guest_unavailable`, or `deadline_exceeded` when
 * the guest neither ends nor kills the command.
 */
export async function runGuestCommand(
  guest: CommandGuest,
  command: GuestCommand,
  maxOutputBytes: number,
  stderrFilter: StreamFilter = passThrough,
): Promise<CommandOutcome> {
  const stdout = new OutputCollector(maxOutputBytes);
  const stderr = new OutputCollector(maxOutputBytes);
  const exec = guest.exec({
    argv: command.argv,
    // The command's own shell goes to the working directory, so that a missing one is no failure.
    cwd: '/',
    env: command.env,
    ...sandboxUser,
    timeoutMs: command.timeoutMs,
    stdin: command.input !== undefined,
  });
  drain(exec.stdout, (chunk) => stdout.push(chunk));
  const keepStderr = (chunk: Buffer): void => stderr.push(chunk);
  drain(exec.stderr, (chunk) => stderrFilter.push(chunk, keepStderr));
  exec.stdin.on('error', () => {
    // The command may end without reading its input; how it ended is told by `exit`.
  });
  if (command.input !== undefined) exec.stdin.end(command.input);

  const { promise: deadline, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    exec.kill();
    reject(new BerthError('deadline_exceeded', { operation: 'The command' }));
  }, command.timeoutMs + killGraceMs);
  try {
    const exit = await Promise.race([exec.exit, deadline]);
    stderrFilter.end(keepStderr);
    return {
      exitCode: exit.timedOut ? -1 : (exit.exitCode ?? -1),
      stdout: stdout.text(),
      stderr: exit.timedOut ? stderr.text() + timeoutNotice : stderr.text(),
      truncated: stdout.truncated || stderr.truncated,
      timedOut: exit.timedOut,
      guestMicros: exit.durationMicros,
    };
  } finally {
    clearTimeout(timer);
  }
}
