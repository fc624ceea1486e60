import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A TPM that is a program. Its state lasts until it is disposed of; each start of it is a reset of the machine. */
export interface SoftwareTpm {
  /** For TpmTools. */
  readonly tcti: string;
  /** As when the machine is switched off and on. */
  reset(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A TPM for a machine of QEMU's, which resets it when it starts. */
export interface QemuTpm extends AsyncDisposable {
  /** Arguments that put it into a machine that has an ISA bus. */
  readonly qemuArguments: readonly string[];
  /** For the kernel, which finds no TPM that the firmware does not name. */
  readonly append: string;
}

export async function startQemuTpm(): Promise<QemuTpm> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-swtpm-'));
  const control = join(directory, 'ctrl');
  const stop = await start(control, ['--tpmstate', `dir=${directory}`]);
  return {
    qemuArguments: [
      ...['-chardev', `socket,id=tpm-control,path=${control}`, '-tpmdev', 'emulator,id=tpm,chardev=tpm-control'],
      ...['-device', 'tpm-tis,tpmdev=tpm'],
    ],
    append: 'tpm_tis.force=1',
    [Symbol.asyncDispose]: async () => {
      await stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export async function startSwtpm(): Promise<SoftwareTpm> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-swtpm-'));
  const socket = join(directory, 'sock');
  const state = join(directory, 'state');
  await mkdir(state);
  const power = () =>
    start(`${socket}.ctrl`, [
      ...['--tpmstate', `dir=${state}`, '--server', `type=unixio,path=${socket}`],
      ...['--flags', 'not-need-init,startup-clear'],
    ]);
  let stop = await power();
  return {
    tcti: `swtpm:path=${socket}`,
    reset: async () => {
      await stop();
      stop = await power();
    },
    [Symbol.asyncDispose]: async () => {
      await stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** @param control unix socket of what controls it */
async function start(control: string, more: readonly string[]): Promise<() => Promise<void>> {
  const child = spawn('swtpm', ['socket', '--tpm2', '--ctrl', `type=unixio,path=${control}`, ...more], {
    stdio: 'ignore',
  });
  const exited = once(child, 'exit');
  while (!(await answers(control))) {
    if (child.exitCode !== null) throw new Error('swtpm did not start');
    await sleep(20);
  }
  return async () => {
    child.kill();
    await exited;
  };
}

async function answers(path: string): Promise<boolean> {
  const connection = createConnection(path);
  try {
    await once(connection, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    connection.destroy();
  }
}
