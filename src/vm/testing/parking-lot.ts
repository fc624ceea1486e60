import { pino } from 'pino';
import type { Engine, EngineState } from '../../engine/engine.ts';
import type { GuestClient, GuestUse } from '../../guest/guest.ts';
import type { Network } from '../../net/network.ts';
import type { VmStore } from '../../store/vm-store.ts';
import { VmLayout } from '../layout.ts';
import { Parking, type ParkingOptions } from '../parking.ts';
import { Records } from '../records.ts';
import { sampleVm } from './sample-vm.ts';

export type ParkingCall = 'pause' | 'resume' | 'setClock' | 'setParked' | 'onNextPacket';

/**
 * One VM whose process is a word, for orders of events and failures that no real host shows when asked to. Every call to
 * the host takes as long as `delay` says, and what must never be seen at any moment is noted.
 */
export class ParkingLot {
  readonly id = 'vm-1';
  readonly records = new Records(pino({ level: 'silent' }));
  readonly parking: Parking;
  readonly failing = new Set<ParkingCall>();
  readonly violations: string[] = [];
  /** What the store says. */
  noted = false;
  process: EngineState = 'running';
  /** Whether the guest has been told the time since it went on. */
  knowsTime = true;
  cpuMicros = 0;
  packets = 0;
  #onPacket: (() => void) | null = null;
  /** That of the process there is: how its guest is used, and the requests that were let through and are not over. */
  #guestOfNow: { readonly use: GuestUse; open: number };
  readonly #delay: (what: string) => Promise<void>;
  #turn: Promise<unknown> = Promise.resolve();

  /** Times as in a VM's record and in the host's settings. */
  constructor(
    delay: (what: string) => Promise<void>,
    times: { readonly vm: number | null; readonly host: number } = { vm: null, host: 0 },
  ) {
    this.#delay = delay;
    this.records.put(sampleVm(1, { id: this.id, state: 'running', parkAfterSeconds: times.vm }));
    this.parking = new Parking({
      deps: {
        engine: this.#engine() as Engine,
        network: this.#network() as Network,
        store: this.#store() as VmStore,
        layout: new VmLayout('/nowhere'),
        settings: { parkAfterSeconds: times.host } as ParkingOptions['deps']['settings'],
        log: pino({ level: 'silent' }),
      },
      records: this.records,
      guestOf: () => this.#guest() as GuestClient,
      exclusive: (_, task) => this.exclusive(task),
    });
    this.#guestOfNow = { use: this.parking.follow(this.id), open: 0 };
  }

  /** A daemon that comes after this one, on the same host and store. */
  static async after(before: ParkingLot): Promise<ParkingLot> {
    const lot = new ParkingLot(before.#delay);
    lot.process = before.process;
    lot.knowsTime = before.knowsTime;
    lot.noted = before.noted;
    const { state } = before.records.get(before.id);
    const record = lot.records.put(sampleVm(1, { id: lot.id, state }));
    lot.records.setParked(lot.id, lot.noted);
    await lot.parking.restore({ ...record, parked: lot.noted }, lot.process);
    return lot;
  }

  /** Whether the host looks for packets for the VM. */
  get isWatched(): boolean {
    return this.#onPacket !== null;
  }

  /** Runs tasks as operations on the VM: one after another. */
  exclusive<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(task);
    this.#turn = result.catch(() => {});
    return result;
  }

  /** A request to the guest, from its beginning to its end. False when it was refused, or its process ended. */
  async request(): Promise<boolean> {
    const guest = this.#guestOfNow;
    try {
      await guest.use.begin();
    } catch {
      return false;
    }
    guest.open++;
    this.#check(guest, () => !this.knowsTime, 'a request reached a guest that does not know the time');
    this.#check(guest, () => this.process === 'paused', 'a request reached a guest that stands still');
    await this.#delay('request');
    this.#check(guest, () => this.process === 'paused', 'a guest stood still during a request');
    guest.open--;
    guest.use.end();
    return guest === this.#guestOfNow && this.process === 'running';
  }

  #check(guest: unknown, isWrong: () => boolean, what: string): void {
    if (guest === this.#guestOfNow && isWrong()) this.violations.push(what);
  }

  /** A packet for the VM; false when the VM stands still and nobody saw it. */
  packet(): boolean {
    this.packets++;
    const isTaken = this.process !== 'paused' || this.#onPacket !== null;
    this.#onPacket?.();
    this.#onPacket = null;
    return isTaken;
  }

  /** Replaces the process by another one, as a reboot does. */
  restart(): Promise<void> {
    return this.exclusive(async () => {
      this.parking.unfollow(this.id);
      this.records.put({ ...this.records.get(this.id), state: 'stopped' });
      this.noted = false;
      this.process = 'absent';
      await this.#delay('restart');
      this.process = 'running';
      this.knowsTime = true;
      this.#guestOfNow = { use: this.parking.follow(this.id), open: 0 };
      this.records.put({ ...this.records.get(this.id), state: 'running' });
    });
  }

  async #call(name: ParkingCall): Promise<void> {
    await this.#delay(name);
    if (this.failing.has(name)) throw new Error(`${name} fails`);
  }

  #engine(): Partial<Engine> {
    return {
      pause: async () => {
        await this.#call('pause');
        if (this.process === 'absent') throw new Error('there is no process');
        if (!this.noted) this.violations.push('a VM stands still that no later daemon would know to be parked');
        if (this.#guestOfNow.open > 0) this.violations.push('a guest was stopped during a request');
        this.process = 'paused';
        this.knowsTime = false;
      },
      resume: async () => {
        await this.#call('resume');
        if (this.process === 'absent') throw new Error('there is no process');
        this.process = 'running';
      },
      cpuMicros: async () => (this.process === 'absent' ? null : this.cpuMicros),
    };
  }

  #network(): Partial<Network> {
    return {
      onNextPacket: async (_taps, callback) => {
        await this.#call('onNextPacket');
        this.#onPacket = callback;
        return () => {
          if (this.#onPacket === callback) this.#onPacket = null;
        };
      },
      traffic: async ([tap = '']) =>
        new Map([[tap, { rxBytes: 0, txBytes: 0, rxPackets: this.packets, txPackets: 0 }]]),
    };
  }

  #store(): Partial<VmStore> {
    return {
      setParked: async (_id, parked) => {
        await this.#call('setParked');
        if (!parked && this.process === 'paused')
          this.violations.push('a VM that stands still was noted as one that runs');
        this.noted = parked;
      },
    };
  }

  #guest(): Partial<GuestClient> {
    return {
      setClock: async () => {
        await this.#call('setClock');
        if (this.process === 'running') this.knowsTime = true;
      },
    };
  }
}
