/** What a {@link FakeHost} has. */

import type { GuestHello } from '../../guest/guest.ts';
import type { Image } from '../../image/images.ts';
import { createBridgePlan } from '../../net/bridge-plan.ts';
import type { TemplateShape } from '../model.ts';
import type { Quotas } from '../quotas.ts';
import type { CreateVm } from '../request.ts';

const file = { sha256: '0'.repeat(64), bytes: 6, uploadedAt: '2026-01-01T00:00:00.000Z' };
/** A whole one. */
export const image: Image = {
  id: 'img-1',
  name: 'test',
  description: '',
  createdAt: file.uploadedAt,
  kernel: file,
  rootfs: file,
  isDefault: true,
};

/** Of a bridge that nothing is plugged into. */
export const plan = createBridgePlan({
  ...{ bridge: 'berth0', address4: '172.16.0.1/16', address6: 'fd00::1/64' },
  resolver: false,
});

export const hello: GuestHello = { protocol: 1, bootId: 'boot', kernel: '6.1.0' };

/** More than any test takes. */
export const ampleQuotas: Quotas = {
  maxVms: 10,
  maxSnapshots: 10,
  maxCpusPerVm: 4,
  maxMemoryMiBPerVm: 1024,
  minMemoryMiBPerVm: 64,
  maxDiskMiBPerVm: 1024,
  totalCpus: 100,
  totalMemoryMiB: 100_000,
  totalDiskMiB: 100_000,
  tenant: { maxVms: 10, maxSnapshots: 10, totalCpus: 100, totalMemoryMiB: 100_000, totalDiskMiB: 100_000 },
};

/** The smallest VM there can be. */
export const small: CreateVm = { cpus: 1, memoryMiB: 64, egress: { outbound: false, allow: [] } };

/** What {@link small} is cloned from. */
export const smallShape: TemplateShape = { imageId: image.id, cpus: 1, memoryMiB: 64 };
