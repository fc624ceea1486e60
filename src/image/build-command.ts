import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { CommandError } from '../common/command.ts';

/** Lines kept of a command's output for its error. */
const keptLines = 40;

export interface BuildCommandOptions {
  readonly cwd?: string;
  /** Added to the environment of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Sees every line of standard output and standard error. */
  readonly onLine?: (line: string) => void;
  readonly signal: AbortSignal;
}

/**
 * Put before every command: a process namespace that dies with its first process, which dies with this one. Package
 * scripts and compilers leave nothing running, nor mounted, however the build ends.
 */
const confine = [
  ...['setpriv', '--pdeathsig', 'KILL', '--'],
  ...['unshare', '--pid', '--mount-proc', '--fork', '--kill-child=KILL', '--'],
] as const;

/**
 * Runs a long host command as root, line by line. Rejects with {@link CommandError} unless it exits 0; `signal` kills it
 * and all it started.
 */
export function runBuildCommand(command: string, args: readonly string[], options: BuildCommandOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const [program, ...confinement] = confine;
  const child = spawn(program, [...confinement, command, ...args], {
    cwd: options.cwd,
    env: { ...process.env, LC_ALL: 'C.UTF-8', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: options.signal,
    killSignal: 'SIGKILL',
  });
  const tail: string[] = [];
  for (const input of [child.stdout, child.stderr]) {
    createInterface({ input }).on('line', (line) => {
      tail.push(line);
      if (tail.length > keptLines) tail.shift();
      options.onLine?.(line);
    });
  }
  let failure: Error | null = null;
  child.on('error', (error) => {
    failure = error;
  });
  // Settles on `close`, after an abort too: nothing of the command is left when the caller tidies up.
  child.on('close', (code) => {
    if (failure) reject(options.signal.aborted ? failure : new CommandError(command, args, null, failure.message));
    else if (code === 0) resolve();
    else reject(new CommandError(command, args, code, tail.join('\n')));
  });
  return promise;
}
