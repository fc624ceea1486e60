/** An initramfs (cpio, "newc") that holds one program as `/init`. */
export function tinyInitramfs(init: Uint8Array): Buffer {
  return Buffer.concat([entry('init', 0o100755, init), entry('TRAILER!!!', 0, new Uint8Array())]);
}

function entry(name: string, mode: number, content: Uint8Array): Buffer {
  // inode, mode, uid, gid, links, mtime, size, device and special device (major, minor), name length, checksum
  const fields = [0, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
  return Buffer.concat([padded(Buffer.from(header)), padded(content)]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
