import { BerthError } from '../../common/errors.ts';
import { stateDescriptor } from './qemu-args.ts';
import type { QmpClient, QmpEvent } from './qemu-qmp.ts';

/** Milliseconds that loading some hundred kilobytes may take on a busy host. */
const loadMs = 20_000;

/** Asks a waiting process to tell how loading goes; to be done before {@link loadState}. */
export async function expectState(qmp: QmpClient): Promise<void> {
  await qmp.execute('migrate-set-capabilities', { capabilities: [{ capability: 'events', state: true }] });
}

/** Loads the devices' state from a descriptor the process was given. QEMU ends itself over a state that does not fit. */
export async function loadState(qmp: QmpClient, descriptor = stateDescriptor): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onEvent = ({ event, data }: QmpEvent) => {
    if (event !== 'MIGRATION') return;
    if (data.status === 'completed') resolve();
    if (data.status === 'failed') reject(new BerthError('snapshot_damaged'));
  };
  const forget = qmp.onEvent(onEvent);
  const timer = setTimeout(
    () => reject(new BerthError('deadline_exceeded', { operation: 'Restoring the memory' })),
    loadMs,
  );
  void qmp.closed.then(() => reject(new BerthError('snapshot_damaged')));
  try {
    const accepted = qmp.execute('migrate-incoming', { uri: `fd:${descriptor}` }, loadMs);
    await Promise.all([accepted, promise]);
  } catch (error) {
    // The end of the session says less than what it means here.
    promise.catch(() => {});
    throw error instanceof BerthError ? error : new BerthError('snapshot_damaged', {}, error);
  } finally {
    clearTimeout(timer);
    forget();
  }
}
