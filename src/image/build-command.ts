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

/** Runs a long host command, line by line. Rejects with {@link CommandError} unless it exits 0; `signal` ends it. */
export function runBuildCommand(command: string, args: readonly string[], options: BuildCommandOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, LC_ALL: 'C.UTF-8', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: options.signal,
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
