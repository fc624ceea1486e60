/** The engine room in a process of its own, told by its parent what to do and where to die; see ./room.ts. */

import { createReadStream } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import { armFailpoint } from '../../../src/common/failpoint.ts';
import { loadConfig } from '../../../src/daemon/config.ts';
import { openHost } from '../../../src/daemon/host.ts';
import { dieAtEffect } from './effects.ts';
import type { RoomOperations } from './room.ts';

const [home = '', settings = '{}', diesAt = ''] = process.argv.slice(2);
dieAt(diesAt);
const { vms, images, db } = await openHost(
  loadConfig({ file: null, env: {}, flags: { home, 'network.resolver': false, ...JSON.parse(settings) } }),
  () => {},
  pino({ level: 'warn' }, pino.destination({ fd: 2, sync: true })),
);

const operations: RoomOperations = {
  list: async () => vms.list(),
  create: (request) => vms.create(request),
  start: (id) => vms.start(id),
  stop: (id, options) => vms.stop(id, options),
  reboot: (id) => vms.reboot(id),
  pause: (id) => vms.pause(id),
  resume: (id) => vms.resume(id),
  resize: (id, change) => vms.resize(id, change),
  remove: (id) => vms.remove(id),
  snapshot: (id) => vms.snapshot(id),
  snapshots: async () => db.all('SELECT id, role FROM snapshots'),
  removeSnapshot: (id) => vms.removeSnapshot(id),
  fork: (id, count) => vms.fork(id, count),
  warm: (shape) => vms.warm(shape),
  async forgetTemplates(ids) {
    for (const id of ids) await db.write((writer) => writer.run('DELETE FROM snapshots WHERE id = ?', id));
  },
  spares: async () => db.all("SELECT id FROM vms WHERE hidden = 1 AND state = 'paused'").length,
  images: async () => images.list(),
  createImage: (name) => images.create({ name, description: '' }),
  putRootfs: (id, path) => images.putRootfs(id, createReadStream(path)),
  setDefaultImage: (id) => images.setDefault(id),
  removeImage: (id) => images.remove(id),
  async shell(id, command) {
    const limits = { cwd: '/', env: { PATH: '/usr/bin:/bin' }, uid: 0, gid: 0, timeoutMs: 60_000 };
    const exec = vms.guest(id).exec({ argv: ['/bin/sh', '-c', command], ...limits });
    exec.stderr.resume();
    const output = await text(exec.stdout);
    const { exitCode } = await exec.exit;
    if (exitCode !== 0) throw new Error(`${command}: exit code ${exitCode}`);
    return output;
  },
  dieAt: async (point) => dieAt(point),
};

function dieAt(point: string): void {
  const number = /^effect (\d+)$/.exec(point)?.[1];
  if (number === undefined) armFailpoint(point);
  else dieAtEffect(Number(number));
}

interface Call {
  readonly number: number;
  readonly name: keyof RoomOperations;
  readonly args: readonly unknown[];
}

process.on('message', async ({ number, name, args }: Call) => {
  try {
    const operation = operations[name] as (...args: readonly unknown[]) => Promise<unknown>;
    process.send?.({ number, value: await operation(...args) });
  } catch (error) {
    process.send?.({ number, error: String(error) });
  }
});
// Nobody is left to say what to do.
process.on('disconnect', () => process.exit(1));
// Now: nothing is kept at the end of a process that is killed.
flushCompileCache();
process.send?.({ number: 0, value: null });
