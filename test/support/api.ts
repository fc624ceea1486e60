import assert from 'node:assert/strict';
import type { TestDaemon } from './daemon.ts';

export interface WireVm {
  readonly id: string;
  readonly state: string;
  readonly guestIp: string;
  readonly provisionMode?: string;
}

export interface ExecResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export const smallVm = { cpu: 1, memMb: 256, allowIps: [] as string[], outboundInternet: false };

/** A JSON call that must answer with `status`; returns the body, null when there is none. */
export async function expectStatus<T = unknown>(
  daemon: TestDaemon,
  status: number,
  method: string,
  path: string,
  body?: unknown,
): Promise<T> {
  const response = await daemon.call(method, path, body);
  const text = await response.text();
  assert.equal(response.status, status, `${method} ${path}: ${response.status} ${text}`);
  return (text === '' ? null : JSON.parse(text)) as T;
}

export function createVm(daemon: TestDaemon, change: Record<string, unknown> = {}): Promise<WireVm> {
  return expectStatus<WireVm>(daemon, 201, 'POST', '/v1/vms', { ...smallVm, ...change });
}

export async function vmState(daemon: TestDaemon, id: string): Promise<string> {
  return (await expectStatus<WireVm>(daemon, 200, 'GET', `/v1/vms/${id}`)).state;
}

export function exec(
  daemon: TestDaemon,
  id: string,
  cmd: string,
  more: Record<string, unknown> = {},
): Promise<ExecResult> {
  return expectStatus<ExecResult>(daemon, 200, 'POST', `/v1/vms/${id}/exec`, { cmd, ...more });
}

/** Standard output of a command that must succeed. */
export async function output(daemon: TestDaemon, id: string, cmd: string): Promise<string> {
  const result = await exec(daemon, id, cmd);
  assert.equal(result.exitCode, 0, result.stderr);
  return result.stdout;
}
