import { BerthError } from '../../common/errors.ts';
import type { ImageStore } from '../../image/images.ts';
import { parseCidr } from '../../net/cidr.ts';
import type { Quotas } from '../../vm/quotas.ts';
import type { CreateVm } from '../../vm/request.ts';
import { DialectError } from './errors.ts';
import { imageId, snapshotId } from './ids.ts';
import type { CreateVmBody } from './schemas.ts';
import type { Limits } from './settings.ts';

function bad(message: string): DialectError {
  return new DialectError(400, message);
}

function checkSize(body: CreateVmBody, quotas: Quotas): void {
  const { maxCpusPerVm, minMemoryMiBPerVm, maxMemoryMiBPerVm, maxDiskMiBPerVm } = quotas;
  if (!Number.isInteger(body.cpu) || body.cpu < 1 || body.cpu > maxCpusPerVm) {
    throw bad(`Invalid cpu (maxCpu=${maxCpusPerVm})`);
  }
  if (!Number.isInteger(body.memMb) || body.memMb < 1 || body.memMb > maxMemoryMiBPerVm) {
    throw bad(`Invalid memMb (maxMemMb=${maxMemoryMiBPerVm})`);
  }
  if (body.memMb < minMemoryMiBPerVm) throw bad(`Invalid memMb (minMemMb=${minMemoryMiBPerVm})`);
  if (body.diskSizeMb === undefined) return;
  if (!Number.isInteger(body.diskSizeMb) || body.diskSizeMb < 1) throw bad('Invalid diskSizeMb');
  if (body.diskSizeMb > maxDiskMiBPerVm) throw bad('diskSizeMb too large');
}

function allowList(entries: readonly string[], limits: Limits): readonly string[] {
  if (entries.length > limits.maxAllowIps) throw bad(`Too many allowIps (maxAllowIps=${limits.maxAllowIps})`);
  return [
    ...new Set(
      entries.map((entry) => {
        if (entry.length < 1 || entry.length > 128) throw bad('Invalid allowIps entry');
        return parseCidr(entry.trim());
      }),
    ),
  ];
}

/** A list that asks for a feature of the original which Berth does not have. Empty asks for nothing. */
function refuseUnlessEmpty(name: string, list: readonly unknown[] | undefined): void {
  if (list !== undefined && list.length > 0) throw bad(`${name} is not supported`);
}

function trimmed(text: string | undefined): string | null {
  const value = text?.trim() ?? '';
  return value === '' ? null : value;
}

function findImage(name: string | null, images: ImageStore): string | null {
  if (name === null) return null;
  const image = images.find(name);
  if (image === null) throw new BerthError('image_not_found');
  return imageId(image.id);
}

function chosenSnapshot(body: CreateVmBody): string | null {
  const id = trimmed(body.userOverlaySnapshotId) ?? trimmed(body.snapshotId);
  if (id === null) return null;
  if (id.startsWith('seed-')) throw bad('Snapshot kind cannot be used as a user overlay baseline');
  return snapshotId(id);
}

/** What the service is asked for. Everything is checked before anything is touched; throws 400 or 404. */
export function decodeCreateVm(body: CreateVmBody, quotas: Quotas, limits: Limits, images: ImageStore): CreateVm {
  checkSize(body, quotas);
  refuseUnlessEmpty('secretEnv', body.secretEnv);
  refuseUnlessEmpty('peerLinks', body.peerLinks);
  const egress = { outbound: body.outboundInternet ?? false, allow: allowList(body.allowIps, limits) };
  const image = findImage(trimmed(body.imageId), images);
  const snapshot = chosenSnapshot(body);
  return {
    cpus: body.cpu,
    memoryMiB: body.memMb,
    egress,
    ...(body.diskSizeMb === undefined ? {} : { diskMiB: body.diskSizeMb }),
    ...(image === null ? {} : { imageId: image }),
    ...(snapshot === null ? {} : { snapshotId: snapshot }),
    ...(body.restoreMemory === undefined ? {} : { restoreMemory: body.restoreMemory }),
    ...(body.parkAfterSeconds === undefined ? {} : { parkAfterSeconds: body.parkAfterSeconds }),
  };
}
