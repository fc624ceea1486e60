/** What run-ts and run-js share: one runtime started once, fed the runner and the code on standard input. */

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { parseEnvironmentList } from './environment.ts';
import { DialectError } from './errors.ts';
import {
  baseEnvironment,
  type CommandGuest,
  type CommandOutcome,
  type GuestCommand,
  guestPath,
  instantTimeout,
  runGuestCommand,
} from './guest-command.ts';
import { newMarker, type ProgramResult, ResultFrameReader } from './result-frame.ts';
import type { Limits } from './settings.ts';
import { timeLimit } from './time-limit.ts';
import { resolveInWorkspace, workspace } from './workspace-path.ts';

/** The part of a request that does not depend on the language. */
export interface ProgramRequest {
  readonly code?: string | undefined;
  readonly path?: string | undefined;
  readonly args?: readonly string[] | undefined;
  readonly env?: readonly string[] | undefined;
  readonly timeoutMs?: number | undefined;
}

export interface Runtime {
  /** Looked up in the guest's own PATH. */
  readonly name: 'deno' | 'node';
  /** Source of the runner; defines `runProgram(request)`. */
  readonly runner: string;
  /** Arguments of the runtime up to and including the one that says the program comes on standard input. */
  readonly flags: (callerEnv: Readonly<Record<string, string>>) => readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Name of the file a snippet is put in. */
  readonly snippet: (id: string) => string;
}

export interface ProgramOutcome extends CommandOutcome, ProgramResult {}

export function readRunner(name: 'deno' | 'node'): string {
  const read = (file: string): string => readFileSync(new URL(`./runners/${file}`, import.meta.url), 'utf8');
  return `${read('result.js')}\n${read(`${name}.js`)}`;
}

// $1 working directory, $2 the caller's PATH, $3 the runtime. The runtime is found in our PATH, whatever the caller's is.
const launcher =
  'cd -- "$1" 2>/dev/null || cd /workspace || exit 127; ' +
  'program=$(command -v "$3") || { echo "$3: not found in this image" >&2; exit 127; }; ' +
  'PATH=$2; export PATH; shift 3; exec "$program" "$@"';

/** Where the program is. Throws 400 for an empty request or a path that leaves the workspace. */
function locate(request: ProgramRequest, runtime: Runtime): { cwd: string; file: string; code?: string } {
  if (request.path !== undefined && request.path !== '') {
    const file = resolveInWorkspace(request.path);
    if (file === null || file === workspace) throw new DialectError(400, 'Only /workspace paths are allowed');
    return { cwd: posix.dirname(file), file };
  }
  if (request.code === undefined || request.code === '') throw new DialectError(400, 'Invalid request body');
  return { cwd: workspace, file: `${workspace}/${runtime.snippet(randomUUID())}`, code: request.code };
}

/** What is run in the guest for a request. `marker` is the secret that authenticates the result's frame. */
function programCommand(
  request: ProgramRequest,
  runtime: Runtime,
  marker: string,
  maxResultBytes: number,
  timeoutMs: number,
): GuestCommand {
  const { cwd, file, code } = locate(request, runtime);
  const args = request.args ?? [];
  const callerEnv = parseEnvironmentList(request.env ?? []);
  const { PATH: callersPath = guestPath, ...env } = callerEnv;
  const flags = runtime.flags(callerEnv);
  if ([...flags, ...args].some((argument) => argument.includes('\0'))) {
    throw new DialectError(400, 'Invalid request body');
  }
  const parameters = JSON.stringify({ marker, maxBytes: maxResultBytes, file, code });
  return {
    argv: ['/bin/sh', '-c', launcher, 'sh', cwd, callersPath, runtime.name, ...flags, ...args],
    env: { ...baseEnvironment, ...runtime.env, ...env },
    timeoutMs,
    // In a function of its own, so that nothing of the runner is a global of the program's.
    input: `(() => {\n${runtime.runner}\nrunProgram(${parameters});\n})();\n`,
  };
}

/** Runs a program as the sandbox's user. See {@link runGuestCommand} for what it rejects with. */
export async function runProgramInGuest(
  guest: CommandGuest,
  request: ProgramRequest,
  runtime: Runtime,
  limits: Limits,
): Promise<ProgramOutcome> {
  const timeoutMs = timeLimit(request.timeoutMs, limits.defaultTimeoutMs, limits.maxRunTimeoutMs, 'maxRunTsTimeoutMs');
  const marker = newMarker();
  const command = programCommand(request, runtime, marker, limits.maxResultBytes, timeoutMs);
  if (timeoutMs <= 0) return { ...instantTimeout, result: null, error: null };

  const reader = new ResultFrameReader(marker, limits.maxResultBytes);
  const outcome = await runGuestCommand(guest, command, limits.maxOutputBytes, reader);
  return { ...outcome, ...reader.result() };
}
