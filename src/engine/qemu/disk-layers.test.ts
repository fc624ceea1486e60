import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openLayer } from './disk-layers.ts';
import { deviceId } from './qemu-args.ts';
import { type QmpClient, QmpClosedError, QmpError } from './qemu-qmp.ts';

const refusal = (command: string) => new QmpError(command, 'GenericError', 'it is a test');

/** In place of a QEMU: a monitor of one disk, whose answers to some commands are errors. Writes down what was asked for. */
function monitor(errors: Readonly<Record<string, Error>>, asked: string[]): QmpClient {
  const execute: QmpClient['execute'] = async (command) => {
    asked.push(command);
    if (errors[command]) throw errors[command];
    return command === 'query-blockstats' ? [{ qdev: deviceId('root'), 'node-name': 'newest' }] : [];
  };
  return { execute } as QmpClient;
}

/** What is told of a layer that is to be attached, what comes of it, and which commands are run for it once it is open. */
async function attached(errors: Readonly<Record<string, Error>>) {
  const [told, asked]: [boolean[], string[]] = [[], []];
  const qmp = monitor(errors, asked);
  const use = async () => {
    await using layer = await openLayer(qmp, {
      disk: 'root',
      path: '/new.qcow2',
      mayHaveWrites: (may) => told.push(may),
    });
    await layer.attach();
  };
  const outcome = await use().catch((error: unknown) => error);
  return { told, outcome, commands: asked.slice(asked.indexOf('blockdev-add') + 1) };
}

describe('a new layer of a disk', () => {
  it('may have writes once it is put in place', async () => {
    assert.deepEqual(await attached({}), { told: [true], outcome: undefined, commands: ['blockdev-snapshot'] });
  });

  it('has none, and is closed, when that is refused', async () => {
    const error = refusal('blockdev-snapshot');
    assert.deepEqual(await attached({ 'blockdev-snapshot': error }), {
      told: [true, false],
      outcome: error,
      commands: ['blockdev-snapshot', 'blockdev-del'],
    });
  });

  it('may have some when the answer is lost, which is what the failure says', async () => {
    const lost = new QmpClosedError();
    const commands = ['blockdev-snapshot', 'blockdev-del'];
    const inUse = { 'blockdev-snapshot': lost, 'blockdev-del': refusal('blockdev-del') };
    for (const errors of [{ 'blockdev-snapshot': lost }, inUse])
      assert.deepEqual(await attached(errors), { told: [true], outcome: lost, commands });
  });

  it('that cannot be closed again says so', async () => {
    const errors = { 'blockdev-snapshot': refusal('blockdev-snapshot'), 'blockdev-del': refusal('blockdev-del') };
    const { outcome } = await attached(errors);
    assert.ok(outcome instanceof SuppressedError);
    assert.deepEqual([outcome.suppressed, outcome.error], Object.values(errors));
  });
});
