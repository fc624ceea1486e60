import type { FastifyInstance, FastifyReply } from 'fastify';
import { forRequest } from './client-gone.ts';
import type { ApiContext } from './context.ts';
import { execInGuest } from './exec.ts';
import { ExecLogRecorder, type LoggedInput } from './exec-log.ts';
import type { CommandOutcome } from './guest-command.ts';
import { withGuest } from './guest-use.ts';
import { vmId } from './ids.ts';
import { type Operation, routeSchema } from './operation.ts';
import { type ExecLogType, execLogTypes } from './ports.ts';
import type { ProgramOutcome } from './program.ts';
import { ownBucket } from './rate-limits.ts';
import { sendJson } from './reply.ts';
import type { ProgramResult } from './result-frame.ts';
import { runJavaScript } from './run-js.ts';
import { runTypeScript } from './run-ts.ts';
import {
  type ExecBody,
  type ExecLogsQuery,
  execBody,
  execLogsBody,
  execLogsQuery,
  execResultBody,
  type IdParams,
  idParams,
  type RunJsBody,
  type RunTsBody,
  runJsBody,
  runResultBody,
  runTsBody,
} from './schemas.ts';
import { bodyLimits } from './settings.ts';

function encodeOutcome({ exitCode, stdout, stderr, truncated }: CommandOutcome): string {
  return JSON.stringify({ exitCode, stdout, stderr, ...(truncated ? { truncated } : {}) });
}

/** The program's own JSON is passed through as text, so that any value arrives exactly as it was given. */
function encodeProgramOutcome(outcome: ProgramOutcome): string {
  const result = outcome.result === null ? '' : `,"result":${outcome.result}`;
  const error = outcome.error === null ? '' : `,"error":${outcome.error}`;
  return `${encodeOutcome(outcome).slice(0, -1)}${result}${error}}`;
}

/** Tells how long the command itself took, apart from the way to it and back: `Server-Timing: guest;dur=<ms>`. */
function withGuestTime(reply: FastifyReply, { guestMicros }: CommandOutcome): FastifyReply {
  return reply.header('server-timing', `guest;dur=${guestMicros / 1000}`);
}

function operation(id: string, summary: string, body: Operation['body'], answer: Operation['answer']) {
  return routeSchema({
    id,
    tag: 'Programs',
    summary,
    params: idParams,
    ...(body === undefined ? {} : { body }),
    status: 200,
    ...(answer === undefined ? {} : { answer }),
    errors: [409, 502, 504, 507],
  });
}

const activities: Readonly<Record<ExecLogType, readonly [type: string, message: string]>> = {
  exec: ['exec.command', 'Command run'],
  'run-ts': ['runTs.executed', 'TypeScript run'],
  'run-js': ['runJs.executed', 'JavaScript run'],
};

export function registerExec(app: FastifyInstance, context: ApiContext): void {
  const { vms, limits, rateLimits, clock } = context;
  const recorder = new ExecLogRecorder(context.execLog, context.log);

  /** Runs and remembers. A command that was interrupted has no outcome to remember. */
  async function recorded<T extends CommandOutcome & Partial<ProgramResult>>(
    id: string,
    type: ExecLogType,
    input: LoggedInput,
    run: () => Promise<T>,
  ): Promise<T> {
    const startedAt = clock();
    const outcome = await run();
    recorder.record(id, type, startedAt, clock(), input, outcome);
    const [activity, message] = activities[type];
    context.activity.record({
      type: activity,
      entityType: 'vm',
      entityId: id,
      message: `${message} in VM ${id}`,
      meta: { exitCode: outcome.exitCode, timedOut: outcome.timedOut },
    });
    return outcome;
  }

  app.post<{ Params: IdParams; Body: ExecBody }>(
    '/v1/vms/:id/exec',
    {
      bodyLimit: bodyLimits.program,
      config: { rateLimit: ownBucket(rateLimits.exec), runDatSheesh: { needs: 'RUNNING to exec' } },
      schema: operation('exec', 'Run a shell command', execBody, execResultBody),
    },
    async (request, reply) => {
      const id = vmId(request.params.id);
      const outcome = await withGuest(vms, id, (guest) =>
        recorded(id, 'exec', request.body, () => execInGuest(forRequest(guest, reply), request.body, limits)),
      );
      return sendJson(withGuestTime(reply, outcome), encodeOutcome(outcome));
    },
  );

  app.post<{ Params: IdParams; Body: RunTsBody }>(
    '/v1/vms/:id/run-ts',
    {
      bodyLimit: bodyLimits.program,
      config: { rateLimit: ownBucket(rateLimits.runTs), runDatSheesh: { needs: 'RUNNING to run-ts' } },
      schema: operation('runTs', 'Run TypeScript under Deno', runTsBody, runResultBody),
    },
    async (request, reply) => {
      const id = vmId(request.params.id);
      const outcome = await withGuest(vms, id, (guest) => {
        const network = vms.get(id).egress.outbound;
        return recorded(id, 'run-ts', request.body, () =>
          runTypeScript(forRequest(guest, reply), request.body, network, limits),
        );
      });
      return sendJson(withGuestTime(reply, outcome), encodeProgramOutcome(outcome));
    },
  );

  app.post<{ Params: IdParams; Body: RunJsBody }>(
    '/v1/vms/:id/run-js',
    {
      bodyLimit: bodyLimits.program,
      config: { rateLimit: ownBucket(rateLimits.runJs), runDatSheesh: { needs: 'RUNNING to run-js' } },
      schema: operation('runJs', 'Run JavaScript under Node', runJsBody, runResultBody),
    },
    async (request, reply) => {
      const id = vmId(request.params.id);
      const outcome = await withGuest(vms, id, (guest) =>
        recorded(id, 'run-js', request.body, () => runJavaScript(forRequest(guest, reply), request.body, limits)),
      );
      return sendJson(withGuestTime(reply, outcome), encodeProgramOutcome(outcome));
    },
  );

  app.get<{ Params: IdParams; Querystring: ExecLogsQuery }>(
    '/v1/vms/:id/exec-logs',
    {
      config: { runDatSheesh: { vmNotFound: 'VM not found' } },
      schema: routeSchema({
        id: 'getExecLogs',
        tag: 'Programs',
        summary: 'What ran in a VM, newest first',
        params: idParams,
        query: execLogsQuery,
        status: 200,
        answer: execLogsBody,
      }),
    },
    async (request, reply) => {
      const { id } = vms.get(vmId(request.params.id));
      const limit = Math.trunc(Math.min(Math.max(request.query.limit ?? 50, 1), 200));
      const type = execLogTypes.find((known) => known === request.query.type) ?? null;
      const { entries, hasMore } = await context.execLog.list(id, { limit, type });
      const items = entries.map((entry) => {
        const head = JSON.stringify({ id: entry.id, timestamp: entry.timestamp, type: entry.type });
        return `${head.slice(0, -1)},"input":${entry.input},"result":${entry.result},"durationMs":${entry.durationMs}}`;
      });
      return sendJson(reply, `{"entries":[${items.join(',')}],"hasMore":${hasMore}}`);
    },
  );
}
