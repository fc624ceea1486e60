import { BerthError } from '../common/errors.ts';
import type { StopOptions } from './api.ts';
import { tellTime } from './clock.ts';
import { maySpaceBeUsed } from './disk-space.ts';
import { growDisk } from './grow-disk.ts';
import { Haste } from './haste.ts';
import type { Vm } from './model.ts';
import { journalEntry, type Operations } from './operations.ts';
import type { Parking } from './parking.ts';
import type { Power } from './power.ts';
import { checkSize } from './quotas.ts';
import type { Turns } from './turns.ts';

/** What users may do to a VM that is there, each in the VM's turn: see {@link VmService} for what the calls throw. */
export class Changes {
  readonly #operations: Operations;
  readonly #turns: Turns;
  readonly #power: Power;
  readonly #parking: Pick<Parking, 'wake'>;
  readonly #haste = new Haste();

  constructor(operations: Operations, turns: Turns, power: Power, parking: Pick<Parking, 'wake'>) {
    this.#operations = operations;
    this.#turns = turns;
    this.#power = power;
    this.#parking = parking;
  }

  /** From now on no guest is given time to end by itself. */
  hurry(): void {
    this.#haste.everywhere();
  }

  start(id: string): Promise<Vm> {
    return this.#turns.run(id, async () => {
      const vm = this.#turns.expect(id, ['created', 'stopped'], 'STOPPED to start');
      this.#power.forget(id);
      return this.#power.start(vm);
    });
  }

  stop(id: string, options: StopOptions): Promise<Vm> {
    if (options.force) return this.#haste.during(id, () => this.#forceStop(id));
    return this.#turns.run(id, async () => {
      const vm = this.#turns.expect(id, ['running', 'paused'], 'RUNNING to stop');
      return this.#haste.grace(id, (hurry) => this.#power.stop(vm, options, null, hurry));
    });
  }

  /** A stop under way, which ends the sooner for this one, does what is asked here as well. */
  #forceStop(id: string): Promise<Vm> {
    const before = this.#operations.records.find(id)?.state;
    const wasUp = before === 'running' || before === 'paused' || before === 'stopping';
    return this.#turns.run(id, async () => {
      const vm = this.#turns.find(id);
      if (wasUp && vm.state === 'stopped') return vm;
      return this.#power.stop(this.#turns.expect(id, ['running', 'paused'], 'RUNNING to stop'), { force: true }, null);
    });
  }

  reboot(id: string, options: StopOptions): Promise<Vm> {
    return this.#turns.run(id, async () => {
      const vm = this.#turns.expect(id, ['running', 'paused'], 'RUNNING to reboot');
      return this.#power.start(await this.#haste.grace(id, (hurry) => this.#power.stop(vm, options, null, hurry)));
    });
  }

  pause(id: string): Promise<Vm> {
    return this.#turns.run(id, async () => {
      const { deps, records } = this.#operations;
      const vm = this.#turns.expect(id, ['running'], 'RUNNING to pause');
      // What its user has paused goes on when its user says so.
      await this.#parking.wake(id);
      await deps.engine.pause(id, deps.layout.run(id));
      const paused = await this.#operations.save({ ...vm, state: 'paused' });
      records.emit('vm.paused', vm);
      return paused;
    });
  }

  resume(id: string): Promise<Vm> {
    return this.#turns.run(id, async () => {
      const { deps, live, records } = this.#operations;
      const vm = this.#turns.expect(id, ['paused'], 'PAUSED to resume');
      const { engine, layout, log, settings } = deps;
      if (live.get(id)?.isStalled && !(await maySpaceBeUsed(layout.home, settings.diskReserveMiB)))
        throw new BerthError('host_disk_full');
      await engine.resume(id, layout.run(id));
      live.setStalled(id, false);
      await tellTime(vm, live.get(id)?.guest, log);
      const resumed = await this.#operations.save({ ...vm, state: 'running', reason: null });
      records.emit('vm.resumed', vm);
      return resumed;
    });
  }

  resize(
    id: string,
    change: { readonly cpus?: number; readonly memoryMiB?: number; readonly diskMiB?: number },
  ): Promise<Vm> {
    return this.#turns.run(id, async () => {
      const { deps, records } = this.#operations;
      const vm = this.#turns.expect(id, ['created', 'stopped'], 'STOPPED to resize');
      const wanted: Vm = { ...vm, ...change };
      checkSize(wanted, deps.settings.quotas);
      if (wanted.diskMiB < vm.diskMiB) throw new BerthError('invalid_argument', { reason: 'a disk can only grow' });
      await this.#power.reserve(wanted, false, journalEntry(id, 'resize'));
      try {
        await growDisk(wanted, deps.layout);
      } catch (error) {
        await this.#operations.finish(vm, {});
        throw error;
      }
      const resized = await this.#operations.finish(wanted, {});
      records.emit('vm.resized', vm);
      return resized;
    });
  }

  remove(id: string): Promise<void> {
    const erase = async () => {
      const { records } = this.#operations;
      const vm = records.get(id);
      await this.#operations.erase(id);
      this.#power.forget(id);
      records.emit('vm.removed', vm);
    };
    return this.#haste.during(id, () => this.#turns.run(id, erase));
  }
}
