import type { DiskFormat } from './qcow2.ts';

/** What a new file has to hold: `parts` at their offsets, zeroes up to `fileBytes`. */
export interface FileContent {
  readonly parts: readonly { readonly offset: number; readonly bytes: Buffer }[];
  readonly fileBytes: number;
}

const clusterBits = 16;
const clusterBytes = 2 ** clusterBits;
const sectorBytes = 512;
const headerBytes = 104;
const backingFormatExtension = 0xe2792aca;
/** What one entry of the first-level table covers: a cluster of references to clusters. */
const bytesPerL1Entry = (clusterBytes / 8) * clusterBytes;
/** 16 TiB, whose first-level table takes four clusters; the refcount block has room for 32 768. */
const maxSizeBytes = 2 ** 44;

/**
 * An empty qcow2 image, version 3, that reads as the image below it. This is the format's minimum: header, one refcount
 * block, and an empty first-level table (docs/interop/qcow2.rst in QEMU's sources). `backing` must be ASCII of at most 1023
 * characters. Throws RangeError for sizes it cannot hold.
 */
export function emptyOverlay(backing: string, backingFormat: DiskFormat, sizeBytes: number): FileContent {
  if (sizeBytes > maxSizeBytes) throw new RangeError(`an overlay has at most ${maxSizeBytes} bytes`);
  const size = Math.ceil(sizeBytes / sectorBytes) * sectorBytes;
  const l1Entries = Math.ceil(size / bytesPerL1Entry);
  const l1Clusters = Math.ceil((l1Entries * 8) / clusterBytes);
  const refcountTable = clusterBytes;
  const refcountBlock = 2 * clusterBytes;
  const l1Table = 3 * clusterBytes;
  const clusters = 3 + l1Clusters;

  const extension = formatExtension(backingFormat);
  const backingOffset = headerBytes + extension.length;
  const header = Buffer.alloc(headerBytes);
  header.write('QFI\xfb', 0, 'latin1');
  header.writeUInt32BE(3, 4);
  header.writeBigUInt64BE(BigInt(backingOffset), 8);
  header.writeUInt32BE(backing.length, 16);
  header.writeUInt32BE(clusterBits, 20);
  header.writeBigUInt64BE(BigInt(size), 24);
  header.writeUInt32BE(l1Entries, 36);
  header.writeBigUInt64BE(BigInt(l1Table), 40);
  header.writeBigUInt64BE(BigInt(refcountTable), 48);
  header.writeUInt32BE(1, 56);
  // Refcounts of 2^4 bits.
  header.writeUInt32BE(4, 96);
  header.writeUInt32BE(headerBytes, 100);

  const tableEntry = Buffer.alloc(8);
  tableEntry.writeBigUInt64BE(BigInt(refcountBlock));
  const refcounts = Buffer.alloc(2 * clusters);
  for (let cluster = 0; cluster < clusters; cluster++) refcounts.writeUInt16BE(1, 2 * cluster);
  return {
    parts: [
      { offset: 0, bytes: Buffer.concat([header, extension, Buffer.from(backing, 'latin1')]) },
      { offset: refcountTable, bytes: tableEntry },
      { offset: refcountBlock, bytes: refcounts },
    ],
    fileBytes: clusters * clusterBytes,
  };
}

/** States the format of the image below, so that nobody guesses it, and ends the list of extensions. */
function formatExtension(format: DiskFormat): Buffer {
  const extension = Buffer.alloc(8 + Math.ceil(format.length / 8) * 8 + 8);
  extension.writeUInt32BE(backingFormatExtension, 0);
  extension.writeUInt32BE(format.length, 4);
  extension.write(format, 8, 'latin1');
  return extension;
}
