/** The record of what ran. Bounded, and without the values of environment variables. */

import { randomUUID } from 'node:crypto';
import type { Log } from '../../common/log.ts';
import type { CommandOutcome } from './guest-command.ts';
import type { ExecLogStore, ExecLogType } from './ports.ts';
import type { ProgramResult } from './result-frame.ts';

/** Characters kept of commands, programs, output and results. */
const maxText = 8192;
/** Items kept of each list, and characters of each. */
const maxItems = 64;
const maxItemText = 256;

function clip(text: string): string {
  return text.length > maxText ? text.slice(0, maxText) : text;
}

function clipAll(texts: readonly string[]): string[] {
  return texts.slice(0, maxItems).map((text) => text.slice(0, maxItemText));
}

/** Names only, as `NAME=***`. */
function maskEnvironment(env: readonly string[] | Readonly<Record<string, string>>): string[] {
  const names = Array.isArray(env) ? env.map((entry: string) => entry.split('=', 1)[0] ?? '') : Object.keys(env);
  return names.slice(0, maxItems).map((name) => `${name.slice(0, maxItemText)}=***`);
}

export interface LoggedInput {
  readonly cmd?: string | undefined;
  readonly cwd?: string | undefined;
  readonly code?: string | undefined;
  readonly path?: string | undefined;
  readonly args?: readonly string[] | undefined;
  readonly env?: readonly string[] | Readonly<Record<string, string>> | undefined;
  readonly timeoutMs?: number | undefined;
  readonly denoFlags?: readonly string[] | undefined;
  readonly nodeFlags?: readonly string[] | undefined;
}

function describeInput(input: LoggedInput): string {
  return JSON.stringify({
    cmd: input.cmd === undefined ? undefined : clip(input.cmd),
    cwd: input.cwd,
    code: input.code === undefined ? undefined : clip(input.code),
    path: input.path,
    args: input.args === undefined ? undefined : clipAll(input.args),
    env: input.env === undefined ? undefined : maskEnvironment(input.env),
    timeoutMs: input.timeoutMs,
    denoFlags: input.denoFlags === undefined ? undefined : clipAll(input.denoFlags),
    nodeFlags: input.nodeFlags === undefined ? undefined : clipAll(input.nodeFlags),
  });
}

/** A structured value is kept whole or not at all: half of a JSON text is none. */
function member(name: string, json: string | null): string {
  return json === null || json.length > maxText ? '' : `,"${name}":${json}`;
}

function describeResult(outcome: CommandOutcome & Partial<ProgramResult>): string {
  const { exitCode, stdout, stderr } = outcome;
  const texts = JSON.stringify({ exitCode, stdout: clip(stdout), stderr: clip(stderr) });
  const values = member('result', outcome.result ?? null) + member('error', outcome.error ?? null);
  return `${texts.slice(0, -1)}${values}}`;
}

export class ExecLogRecorder {
  readonly #store: ExecLogStore;
  readonly #log: Log;

  constructor(store: ExecLogStore, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  /** A record that cannot be written is logged and never fails the command it tells of. */
  record(
    vmId: string,
    type: ExecLogType,
    startedAt: number,
    endedAt: number,
    input: LoggedInput,
    outcome: CommandOutcome & Partial<ProgramResult>,
  ): void {
    this.#store
      .append(vmId, {
        id: randomUUID(),
        timestamp: new Date(startedAt).toISOString(),
        type,
        durationMs: endedAt - startedAt,
        input: describeInput(input),
        result: describeResult(outcome),
      })
      .catch((error: unknown) => this.#log.warn({ err: error, vmId }, 'command was not recorded'));
  }
}
