import type { BootMeasurements } from '../attest/boot-measurements.ts';
import { eventJson, parseEventLog } from '../attest/events.ts';
import { BerthError } from '../common/errors.ts';

/** What a host measured before it booted a VM, as it hands it to a simulated TEE in the VM. */
interface MeasurementsFile {
  /** Hex. */
  readonly mrtd: string;
  /** In the shape of the event log. */
  readonly boot_events: unknown;
}

export function serializeMeasurements({ mrtd, bootEvents }: BootMeasurements): string {
  return `${JSON.stringify({ mrtd: mrtd.toString('hex'), boot_events: bootEvents.map(eventJson) } satisfies MeasurementsFile)}\n`;
}

/** @throws BerthError invalid_argument */
export function parseMeasurements(text: string): BootMeasurements {
  try {
    const { mrtd, boot_events: events } = JSON.parse(text) as Partial<MeasurementsFile>;
    if (typeof mrtd !== 'string' || !/^[0-9a-f]{96}$/i.test(mrtd)) throw new RangeError('mrtd is not 48 bytes');
    return { mrtd: Buffer.from(mrtd, 'hex'), bootEvents: parseEventLog(events) };
  } catch (error) {
    throw new BerthError('invalid_argument', { reason: 'the measurements file cannot be read' }, error);
  }
}
