import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { DiskFormatError, type InspectedDisk, inspectDisk } from './inspect.ts';

const dir = mkdtempSync(join(tmpdir(), 'berth-inspect-'));
after(() => rmSync(dir, { recursive: true }));

const path = (name: string) => join(dir, name);
const qemuImg = (...args: string[]) => execFileSync('qemu-img', args, { cwd: dir, stdio: 'pipe' });

async function inspect(name: string): Promise<InspectedDisk> {
  await using file = await open(path(name), 'r');
  return await inspectDisk(file);
}

describe('a disk', () => {
  it('is raw when nothing else is known of it', async () => {
    await writeFile(path('raw'), Buffer.alloc(5000, 1));
    assert.deepEqual(await inspect('raw'), { format: 'raw', virtualSizeBytes: 5000 });
  });

  for (const options of ['compat=0.10', 'compat=1.1', 'compat=1.1,extended_l2=on', 'compression_type=zstd'])
    it(`is qcow2 (${options}) when it stands alone`, async () => {
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, 'alone', '7M');
      assert.deepEqual(await inspect('alone'), { format: 'qcow2', virtualSizeBytes: 7 * 1024 * 1024 });
    });

  const refused: readonly (readonly [string, RegExp, () => unknown])[] = [
    ['that stands on another file', /stands on another/, () => overlay('/etc/passwd')],
    [
      'whose data is in another file',
      /data in another/,
      () => create('qcow2', '-o', 'data_file=data,data_file_raw=on'),
    ],
    ['that is encrypted', /encrypted/, () => encrypted()],
    ['of VMware', /VMDK/, () => create('vmdk')],
    ['of VirtualBox', /VDI/, () => create('vdi')],
    ['of Hyper-V', /VHDX/, () => create('vhdx')],
    ['of QED', /QED/, () => create('qed')],
    ['of Virtual PC', /VHD/, () => create('vpc', '-o', 'subformat=dynamic')],
    ['of a qcow2 that is cut off', /cut off/, () => writeFile(path('refused'), 'QFI\xfb\0\0\0\x03', 'latin1')],
    [
      'of a future qcow2',
      /unknown version/,
      () => writeFile(path('refused'), `QFI\xfb\0\0\0\x09${'\0'.repeat(99)}`, 'latin1'),
    ],
    ['without content', /empty/, () => writeFile(path('refused'), '')],
  ];
  for (const [what, reason, make] of refused)
    it(`is refused ${what}`, async () => {
      rmSync(path('refused'), { force: true });
      await make();
      await assert.rejects(inspect('refused'), { name: 'DiskFormatError', message: reason });
    });

  it('of whatever bytes is accepted or refused with a reason', async () => {
    const start = fc.constantFrom('', 'QFI\xfb', 'QFI\xfb\0\0\0\x02', 'QFI\xfb\0\0\0\x03', 'KDMV', 'QED\0');
    await fc.assert(
      fc.asyncProperty(start, fc.uint8Array({ maxLength: 200 }), async (mark, rest) => {
        await writeFile(path('any'), Buffer.concat([Buffer.from(mark, 'latin1'), rest]));
        try {
          const { virtualSizeBytes } = await inspect('any');
          return virtualSizeBytes > 0;
        } catch (error) {
          return error instanceof DiskFormatError;
        }
      }),
    );
  });
});

function create(format: string, ...options: string[]): void {
  qemuImg('create', '-q', '-f', format, ...options, 'refused', '1M');
}

function overlay(backing: string): void {
  qemuImg('create', '-q', '-u', '-f', 'qcow2', '-F', 'raw', '-b', backing, 'refused', '1M');
}

function encrypted(): void {
  const secret = ['--object', 'secret,id=s,data=secret'];
  create('qcow2', ...secret, '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10');
}
