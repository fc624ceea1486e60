/** Images: a kernel and a root file system under a name. What the rest of Berth asks of the image store. */

import type { Readable } from 'node:stream';

export interface ImageFile {
  /** Lower-case hex SHA-256 of the stored file. */
  readonly sha256: string;
  readonly bytes: number;
  readonly uploadedAt: string;
}

export interface Image {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly createdAt: string;
  readonly kernel: ImageFile | null;
  readonly rootfs: ImageFile | null;
  readonly isDefault: boolean;
}

/** Absolute paths of a complete image's files; hard-linked into each VM's directory, never changed in place. */
export interface ImageFiles {
  readonly kernel: string;
  readonly rootfs: string;
  readonly initrd: string;
}

export interface ImageStore {
  list(): readonly Image[];
  /** Throws `image_not_found`. */
  get(id: string): Image;
  /** By id or by unique name. */
  find(idOrName: string): Image | null;
  default(): Image | null;
  create(input: { readonly name: string; readonly description: string }): Promise<Image>;
  /**
   * Streams a kernel (ELF vmlinux or bzImage, stored uncompressed when it can be) into the image. Atomic: the old file
   * stays until the new one is whole and checked. Throws `image_invalid`, `payload_too_large`.
   */
  putKernel(id: string, body: Readable): Promise<Image>;
  /** Streams an ext4 root file system into the image. */
  putRootfs(id: string, body: Readable): Promise<Image>;
  /** A zip with `vmlinux` and/or `rootfs.ext4` at any depth. */
  putBundle(id: string, body: Readable): Promise<Image>;
  setDefault(id: string): Promise<Image>;
  /** Throws `image_in_use` when `inUse(id)`. */
  remove(id: string): Promise<void>;
  /** Files of a complete image with an initramfs that fits this build of guest-init. Throws `image_incomplete`. */
  files(id: string): Promise<ImageFiles>;
}
