import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';

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
  return new StartedCommand(command, args, options).finish(options.input);
}

/** A host command that waits for its input. */
export class StartedCommand {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #timeoutMs: number;
  readonly #result = Promise.withResolvers<CommandResult>();
  #hasEnded = false;

  constructor(command: string, args: readonly string[], options: Omit<CommandOptions, 'input'> = {}) {
    this.#timeoutMs = options.timeoutMs ?? 60_000;
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child = child;
    const { promise, resolve, reject } = this.#result;
    // Whoever does not wait for the end must not be hurt by it.
    promise.catch(() => {});
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
    child.on('exit', () => {
      this.#hasEnded = true;
    });
    child.on('close', (code) => {
      const err = Buffer.concat(stderr).toString('utf8');
      if (code === 0 && size <= limit) resolve({ stdout: Buffer.concat(stdout).toString('utf8'), stderr: err });
      else reject(new CommandError(command, args, code, size > limit ? 'too much output' : err));
    });
  }

  /** It ended before it was given anything. */
  get hasEnded(): boolean {
    return this.#hasEnded || this.#child.pid === undefined;
  }

  /** Lets this process end while the command waits; the command ends too then. */
  unref(): this {
    for (const part of this.#parts()) part.unref?.();
    return this;
  }

  /** Gives it its input and waits for the end. Rejects with {@link CommandError} unless it exits 0. */
  async finish(input?: string | Uint8Array): Promise<CommandResult> {
    for (const part of this.#parts()) part.ref?.();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), this.#timeoutMs);
    this.#child.stdin.end(input);
    try {
      return await this.#result.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  #parts(): readonly { ref?(): void; unref?(): void }[] {
    const { stdin, stdout, stderr } = this.#child;
    return [this.#child, stdin, stdout, stderr] as readonly { ref?(): void; unref?(): void }[];
  }
}
