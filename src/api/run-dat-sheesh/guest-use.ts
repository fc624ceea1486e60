import { BerthError } from '../../common/errors.ts';
import type { GuestClient } from '../../guest/guest.ts';
import type { VmService } from '../../vm/api.ts';

const lostGuest = new Set(['guest_interrupted', 'guest_unavailable']);

/**
 * Uses the guest of a running VM. Rejects as {@link VmService.guest} throws, and with `vm_not_found` instead of a guest that
 * was lost when the VM was removed meanwhile.
 */
export async function withGuest<T>(
  vms: Pick<VmService, 'get' | 'guest'>,
  id: string,
  use: (guest: GuestClient) => Promise<T>,
): Promise<T> {
  const guest = vms.guest(id);
  try {
    return await use(guest);
  } catch (error) {
    const isLost = error instanceof BerthError && lostGuest.has(error.code);
    // Its end is the end of its guest; by the time that is noticed it may not be over.
    if (isLost && vms.get(id).state === 'removing') throw new BerthError('vm_not_found', { id }, error);
    throw error;
  }
}
