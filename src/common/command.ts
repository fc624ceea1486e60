import { spawn } from 'node:child_process';

/** A host command that failed. Its text may hold paths: it goes to the log, never to a client. */
export class CommandError extends Error {
  readonly exitCode: number | null;
  readonly stderr: string;

  constructor(command: string, args: readonly string[], exitCode: number | null, stderr: string) {
    super(`${command} ${args.join(' ')} failed (${exitCode ?? 'killed'}): ${stderr.trim().slice(0, 2000)}`);
    this.name = 'CommandError';
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

export interface CommandOptions {
  /** Written to the command's standard input, which is then closed. */
  readonly input?: string | Uint8Array;
  /** Milliseconds after which the command is killed; default 60 000. */
  readonly timeoutMs?: number;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Bytes of standard output kept, default 64 MiB; more is an error. */
  readonly maxOutputBytes?: number;
}

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a host command without a shell. Rejects with {@link CommandError} unless it exits 0. */
export function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 60_000,
    killSignal: 'SIGKILL',
  });
  const limit = options.maxOutputBytes ?? 64 * 1024 * 1024;
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  let size = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size > limit) child.kill('SIGKILL');
    else stdout.push(chunk);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    if (stderr.length < 256) stderr.push(chunk);
  });
  // A command that exits without reading its input must not bring the daemon down with EPIPE.
  child.stdin.on('error', () => {});
  child.on('error', (error) => reject(new CommandError(command, args, null, error.message)));
  child.on('close', (code) => {
    const err = Buffer.concat(stderr).toString('utf8');
    if (code === 0 && size <= limit) resolve({ stdout: Buffer.concat(stdout).toString('utf8'), stderr: err });
    else reject(new CommandError(command, args, code, size > limit ? 'too much output' : err));
  });
  child.stdin.end(options.input);
  return promise;
}
