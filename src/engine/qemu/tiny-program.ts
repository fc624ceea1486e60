/**
 * Programs of a few dozen bytes for x86-64 Linux, written out as static ELF files: no compiler is needed on the host.
 * They serve as `/init` when an accelerator is probed, and to read the host's time stamp counter.
 */

const loadAddress = 0x400000;
const headerBytes = 64 + 56;
/** Zeroed memory behind the code, at {@link dataAddress}. */
const dataOffset = 0x800;
const dataBytes = 0x100;

/** Address of {@link dataBytes} bytes the program may write to. */
export const dataAddress = loadAddress + dataOffset;

/** Machine code and the text it refers to, laid out once its position is known. */
export type Instruction = (position: number) => Buffer;

const syscallNumber = { write: 1, pause: 34, nanosleep: 35, exit: 60, reboot: 169, clock_gettime: 228 } as const;

/** A system call with up to three 32-bit arguments. */
export function syscall(name: keyof typeof syscallNumber, ...args: readonly number[]): Instruction {
  const registers = [0xbf, 0xbe, 0xba];
  const loads = args.map((value, index) => load32(registers[index]!, value));
  return () => Buffer.concat([load32(0xb8, syscallNumber[name]), ...loads, Buffer.from([0x0f, 0x05])]);
}

/** Writes `text` to standard output. */
export function print(text: string): Instruction {
  const bytes = Buffer.from(text);
  return (position) => {
    // jmp over the text, then write(1, text, length)
    const jump = Buffer.from([0xe9, 0, 0, 0, 0]);
    jump.writeInt32LE(bytes.length, 1);
    const call = syscall('write', 1, position + jump.length, bytes.length);
    return Buffer.concat([jump, bytes, call(0)]);
  };
}

/** Ends the machine; only for process 1. */
export function powerOff(): Instruction {
  return syscall('reboot', 0xfee1dead, 0x28121969, 0x4321fedc);
}

/** Restarts the machine; only for process 1. */
export function restart(): Instruction {
  return syscall('reboot', 0xfee1dead, 0x28121969, 0x01234567);
}

/** Stores the time stamp counter as a little-endian 64-bit number at `address`. */
export function readTimeStampCounter(address: number): Instruction {
  const code = Buffer.from([0x0f, 0x31, 0x89, 0x04, 0x25, 0, 0, 0, 0, 0x89, 0x14, 0x25, 0, 0, 0, 0]);
  code.writeUInt32LE(address, 5);
  code.writeUInt32LE(address + 4, 12);
  return () => code;
}

/** Stores a 32-bit number at `address`. */
export function store32(address: number, value: number): Instruction {
  const code = Buffer.from([0xc7, 0x04, 0x25, 0, 0, 0, 0, 0, 0, 0, 0]);
  code.writeUInt32LE(address, 3);
  code.writeUInt32LE(value, 7);
  return () => code;
}

/** Runs `body` again and again. */
export function forever(...body: readonly Instruction[]): Instruction {
  return (position) => {
    const code = assemble(body, position);
    const jump = Buffer.from([0xe9, 0, 0, 0, 0]);
    jump.writeInt32LE(-(code.length + jump.length), 1);
    return Buffer.concat([code, jump]);
  };
}

/** A static ELF executable that runs `instructions` in order; the last must not return. */
export function program(...instructions: readonly Instruction[]): Buffer {
  const code = assemble(instructions, loadAddress + headerBytes);
  if (headerBytes + code.length > dataOffset) throw new RangeError('program too long');
  const elf = Buffer.alloc(headerBytes);
  elf.write('\x7fELF\x02\x01\x01', 'latin1');
  elf.writeUInt16LE(2, 16); // executable
  elf.writeUInt16LE(62, 18); // x86-64
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(BigInt(loadAddress + headerBytes), 24);
  elf.writeBigUInt64LE(64n, 32); // program headers follow
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt16LE(64, 58);
  elf.writeUInt32LE(1, 64); // PT_LOAD
  elf.writeUInt32LE(7, 68); // read, write, execute
  elf.writeBigUInt64LE(BigInt(loadAddress), 80);
  elf.writeBigUInt64LE(BigInt(loadAddress), 88);
  elf.writeBigUInt64LE(BigInt(headerBytes + code.length), 96);
  elf.writeBigUInt64LE(BigInt(dataOffset + dataBytes), 104);
  elf.writeBigUInt64LE(0x1000n, 112);
  return Buffer.concat([elf, code]);
}

function assemble(instructions: readonly Instruction[], start: number): Buffer {
  const parts: Buffer[] = [];
  let position = start;
  for (const instruction of instructions) {
    const part = instruction(position);
    parts.push(part);
    position += part.length;
  }
  return Buffer.concat(parts);
}

function load32(opcode: number, value: number): Buffer {
  const code = Buffer.alloc(5);
  code.writeUInt8(opcode, 0);
  code.writeUInt32LE(value, 1);
  return code;
}
