import { CommandError, runCommand } from '../common/command.ts';

/**
 * Runs a host program that reads what somebody else made. False when the kernel ended it, for writing a file of more than
 * `maxFileBytes`, or it did not end in time. Rejects with {@link CommandError} when it fails by itself.
 */
export async function runBounded(command: string, args: readonly string[], maxFileBytes: number): Promise<boolean> {
  try {
    await runCommand('prlimit', [`--fsize=${maxFileBytes}`, '--core=0', command, ...args]);
    return true;
  } catch (error) {
    if (error instanceof CommandError && error.exitCode === null) return false;
    throw error;
  }
}
