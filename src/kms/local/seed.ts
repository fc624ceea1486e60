import { sha256 } from '../../attest/hash.ts';
import { deriveKey } from '../../attest/kdf.ts';
import type { Measurements } from '../../attest/measurements.ts';
import { simulatedEnclave } from '../../attest/simulated/pki.ts';

/** Identity of the provider: what apps pin as `key_provider_id`. */
export const localProviderEnclave = simulatedEnclave('local key provider', 1);

/**
 * The seed of the keys of an app whose key provider is the machine's own: SHA-256(sealing key ‖ MRTD ‖ RTMR0-3), so it is
 * another one for every image, app, instance and machine.
 *
 * @param secret of the machine
 * @param measured when keys are asked for: the app is measured, its keys are not
 */
export function localSeed(secret: Uint8Array, { mrtd, rtmrs }: Pick<Measurements, 'mrtd' | 'rtmrs'>): Buffer {
  return sha256(deriveKey(secret, ['berth-local-key-provider']), mrtd, ...rtmrs);
}
