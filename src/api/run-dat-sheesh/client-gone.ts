import type { FastifyReply } from 'fastify';
import type { CommandGuest } from './guest-command.ts';

/**
 * The guest as one request sees it: when its client goes away before it has its answer, the commands it began are killed,
 * with all they have started. Nobody is left who would read what they say.
 */
export function forRequest(guest: CommandGuest, reply: FastifyReply): CommandGuest {
  const { raw } = reply;
  return {
    exec(request) {
      const exec = guest.exec(request);
      const onClose = () => {
        if (!raw.writableFinished) exec.kill();
      };
      if (raw.destroyed) onClose();
      else raw.once('close', onClose);
      return exec;
    },
  };
}
