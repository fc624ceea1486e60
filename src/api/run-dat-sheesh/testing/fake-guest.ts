import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { BerthError } from '../../../common/errors.ts';
import type {
  GuestClient,
  GuestExec,
  GuestExecExit,
  GuestExecRequest,
  GuestUploadOptions,
} from '../../../guest/guest.ts';

/** What a fake command does: everything it writes, then how it ends. */
export interface FakeCommand {
  readonly stdout?: Iterable<Buffer>;
  readonly stderr?: Iterable<Buffer>;
  readonly exit?: Partial<GuestExecExit>;
  /** Instead of ending, the command fails with this. */
  readonly failure?: Error;
}

export interface FakeUpload {
  readonly dest: string;
  readonly tar: Buffer;
  readonly options: GuestUploadOptions;
}

const cleanExit: GuestExecExit = { exitCode: 0, signal: null, timedOut: false, durationMicros: 1000 };

function notFaked(): never {
  throw new Error('not faked');
}

/** A guest in memory: it remembers what it was asked for and answers as the test says. */
export class FakeGuest implements GuestClient {
  readonly commands: (GuestExecRequest & { readonly input: string })[] = [];
  readonly uploads: FakeUpload[] = [];
  /** Decides what a command does, given what was written to its standard input. */
  onExec: (request: GuestExecRequest, input: string) => FakeCommand = () => ({});
  onDownload: (path: string) => Promise<Readable> = async () => Readable.from([Buffer.alloc(1024)]);

  exec(request: GuestExecRequest): GuestExec {
    const stdin = new PassThrough();
    const stdout = new PassThrough();
    const stderr = new PassThrough();
    const run = async (): Promise<GuestExecExit> => {
      const input = request.stdin === true ? (await buffer(stdin)).toString('utf8') : '';
      this.commands.push({ ...request, input });
      const command = this.onExec(request, input);
      for (const chunk of command.stdout ?? []) stdout.write(chunk);
      for (const chunk of command.stderr ?? []) stderr.write(chunk);
      const ended = Promise.all(
        [stdout, stderr].map((stream) => new Promise((resolve) => stream.once('end', resolve))),
      );
      stdout.end();
      stderr.end();
      await ended;
      if (command.failure !== undefined) throw command.failure;
      return { ...cleanExit, ...command.exit };
    };
    return { stdin, stdout, stderr, exit: run(), resize: notFaked, kill: () => {} };
  }

  async uploadTar(dest: string, tar: Readable, options: GuestUploadOptions): Promise<void> {
    this.uploads.push({ dest, tar: await buffer(tar), options });
  }

  downloadTar(path: string): Promise<Readable> {
    if (path === '/workspace/missing') throw new BerthError('guest_rejected', { reason: 'no such file' });
    return this.onDownload(path);
  }

  ready = notFaked;
  configure = notFaked;
  become = notFaked;
  setClock = notFaked;
  connect = notFaked;
  sync = notFaked;
  freeze = notFaked;
  thaw = notFaked;
  powerOff = notFaked;
  reboot = notFaked;
  close = notFaked;
}
