/** The wire, once: each schema gives the type, the request validation (as JSON Schema, by AJV) and the OpenAPI text. */

import { z } from 'zod';

/** For validating requests: AJV coerces and words its failures exactly as the original's clients expect. */
export function requestSchema(schema: z.ZodType): Record<string, unknown> {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { target: 'draft-7', io: 'input' });
  return json;
}

/** For documentation only; answers are serialized by the codec. */
export function responseSchema(schema: z.ZodType): Record<string, unknown> {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { target: 'openapi-3.0', io: 'input' });
  return json;
}

const wireStates = ['CREATED', 'STARTING', 'RUNNING', 'STOPPING', 'STOPPED', 'DELETED', 'ERROR'] as const;
export type WireState = (typeof wireStates)[number];

export const errorBody = z.object({
  message: z.string(),
  requestId: z.string().optional().describe('Present from status 500 on; names the request in the daemon log.'),
});

export const idParams = z.object({ id: z.string() });
export type IdParams = z.infer<typeof idParams>;

// VMs. Ranges are checked by the handler, which answers in this dialect's words.

export const createVmBody = z
  .object({
    cpu: z.number().describe('Whole number of vCPUs, from 1.'),
    memMb: z.number().describe('Memory in MiB, a whole number.'),
    allowIps: z
      .array(z.string())
      .describe('Addresses and CIDRs the VM may reach, at most 64. They count only with outboundInternet.'),
    outboundInternet: z.boolean().optional().describe('Default false: nothing leaves the VM. True: only to allowIps.'),
    imageId: z.string().optional().describe('Id or name of an image. Default: the default image.'),
    snapshotId: z.string().optional(),
    userOverlaySnapshotId: z.string().optional().describe('Same as snapshotId, and wins over it.'),
    restoreMemory: z
      .boolean()
      .optional()
      .describe('false boots from the disk of the snapshot; default: goes on from its memory, where it has any.'),
    diskSizeMb: z.number().optional().describe('Size of the disk in MiB. Less than the image needs is raised to that.'),
    secretEnv: z.array(z.string()).optional().describe('Not supported; only an empty list is accepted.'),
    peerLinks: z.array(z.unknown()).optional().describe('Not supported; only an empty list is accepted.'),
    parkAfterSeconds: z
      .number()
      .optional()
      .describe('Idle seconds after which the VM is parked, a whole number; 0: never. Default: as the host is set.'),
  })
  .meta({
    examples: [{ cpu: 1, memMb: 256, allowIps: ['172.16.0.1/32'], outboundInternet: true, diskSizeMb: 512 }],
  });
export type CreateVmBody = z.infer<typeof createVmBody>;

export const vmBody = z.object({
  id: z.string(),
  state: z.enum(wireStates),
  cpu: z.number(),
  memMb: z.number(),
  guestIp: z.string(),
  outboundInternet: z.boolean(),
  createdAt: z.string(),
  provisionMode: z.enum(['boot', 'snapshot']).optional(),
  imageId: z.string().optional(),
  peerLinks: z.array(z.unknown()),
  parked: z
    .boolean()
    .optional()
    .describe('Present, and true, while an idle VM stands still; it wakes when it is used.'),
  renewal: z
    .array(z.object({ name: z.string(), outcome: z.enum(['done', 'skipped', 'failed']), detail: z.string() }))
    .optional()
    .describe('Of one VM that was not booted: what it was given of its own before it ran. Not in lists.'),
});
export type VmBody = z.infer<typeof vmBody>;

export const forkBody = z
  .object({ count: z.number().describe('Copies, a whole number from 1 to 64.') })
  .meta({ examples: [{ count: 2 }] });
export type ForkBody = z.infer<typeof forkBody>;

export const warmBody = z.object({ cpu: z.number(), memMb: z.number() }).meta({ examples: [{ cpu: 1, memMb: 256 }] });
export type WarmBody = z.infer<typeof warmBody>;

export const logsQuery = z.object({
  type: z.string().optional().describe('firecracker.log (default), firecracker.stdout.log or firecracker.stderr.log'),
  tail: z.number().optional().describe('Lines, 1 to 1000, default 200.'),
});
export type LogsQuery = z.infer<typeof logsQuery>;

export const logsBody = z.object({
  type: z.string(),
  lines: z.array(z.string()),
  truncated: z.boolean(),
  updatedAt: z.string().optional(),
});

// Programs

const environmentList = z.array(z.string().max(120_000)).max(1024).describe('KEY=value');
const argumentList = z.array(z.string().max(120_000)).max(512);

export const execBody = z
  .object({
    cmd: z.string().describe('Run by bash -lc as uid and gid 1000.'),
    cwd: z.string().max(4096).optional().describe('Below /workspace; anything else means /workspace.'),
    env: z.record(z.string(), z.string().max(120_000)).optional(),
    timeoutMs: z.number().optional().describe('Default 30000.'),
  })
  .meta({ examples: [{ cmd: 'echo hello && id -u', timeoutMs: 30_000 }] });
export type ExecBody = z.infer<typeof execBody>;

const codeOrPath = { anyOf: [{ required: ['code'] }, { required: ['path'] }] };
const program = {
  code: z.string().optional(),
  path: z.string().max(4096).optional().describe('A file below /workspace; wins over code.'),
  args: argumentList.optional(),
  env: environmentList.optional(),
  timeoutMs: z.number().optional().describe('Default 30000.'),
};

export const runTsBody = z
  .object({ ...program, denoFlags: argumentList.optional() })
  .meta({ ...codeOrPath, examples: [{ code: 'result.set({ ok: true, answer: 42 })' }] });
export type RunTsBody = z.infer<typeof runTsBody>;

export const runJsBody = z
  .object({ ...program, nodeFlags: argumentList.optional() })
  .meta({ ...codeOrPath, examples: [{ code: 'result.set({ ok: true, answer: 42 })' }] });
export type RunJsBody = z.infer<typeof runJsBody>;

export const execResultBody = z.object({
  exitCode: z.number().describe('-1 when the command was ended by a signal or the time limit.'),
  stdout: z.string(),
  stderr: z.string(),
  truncated: z.boolean().optional().describe('Present, and true, when a stream was longer than what is kept of it.'),
});

export const runResultBody = execResultBody.extend({
  result: z.unknown().optional().describe('What the program gave to result.set, as is.'),
  error: z.unknown().optional().describe('What it gave to result.error, or threw: {name, message, stack}.'),
});

export const execLogsQuery = z.object({
  limit: z.number().optional().describe('1 to 200, default 50.'),
  type: z.string().optional().describe('exec, run-ts or run-js; anything else means all.'),
});
export type ExecLogsQuery = z.infer<typeof execLogsQuery>;

export const execLogsBody = z.object({
  entries: z.array(
    z.object({
      id: z.string(),
      timestamp: z.string(),
      type: z.enum(['exec', 'run-ts', 'run-js']),
      input: z.record(z.string(), z.unknown()).describe('Values of environment variables are shown as ***.'),
      result: z.record(z.string(), z.unknown()),
      durationMs: z.number(),
    }),
  ),
  hasMore: z.boolean(),
});

// Files

export const uploadQuery = z.object({ dest: z.string().describe('Directory below /workspace.') });
export type UploadQuery = z.infer<typeof uploadQuery>;
export const downloadQuery = z.object({ path: z.string().describe('Directory or file below /workspace.') });
export type DownloadQuery = z.infer<typeof downloadQuery>;

// Snapshots

export const snapshotsQuery = z.object({ scope: z.string().optional().describe('user (default), internal or all') });
export type SnapshotsQuery = z.infer<typeof snapshotsQuery>;

export const snapshotBody = z.object({
  id: z.string(),
  kind: z.enum(['user_overlay', 'vm', 'image_seed']),
  createdAt: z.string(),
  cpu: z.number(),
  memMb: z.number(),
  imageId: z.string().optional(),
  baseSeedSnapshotId: z.string().optional(),
  sourceVmId: z.string().optional(),
  vmId: z.string().optional(),
  hasDisk: z.boolean(),
  hasOverlay: z.boolean(),
  internal: z.boolean().optional(),
});
export type SnapshotBody = z.infer<typeof snapshotBody>;

// Images

export const createImageBody = z
  .object({ name: z.string().max(200), description: z.string().max(4096) })
  .meta({ examples: [{ name: 'my-custom-image', description: 'Alpine with Python 3.12' }] });
export type CreateImageBody = z.infer<typeof createImageBody>;

export const imageBody = z.object({
  id: z.string(),
  name: z.string(),
  description: z.string(),
  createdAt: z.string(),
  kernelFilename: z.string().nullable(),
  rootfsFilename: z.string().nullable(),
  baseRootfsBytes: z.number().nullable(),
  seedSnapshotId: z.string().nullable(),
  seedStatus: z.enum(['pending', 'ready', 'failed']).nullable(),
  seedUpdatedAt: z.string().nullable(),
  seedError: z.string().nullable(),
  kernelUploadedAt: z.string().nullable().optional(),
  rootfsUploadedAt: z.string().nullable().optional(),
  isDefault: z.boolean().optional(),
  hasKernel: z.boolean().optional(),
  hasRootfs: z.boolean().optional(),
});
export type ImageBody = z.infer<typeof imageBody>;

// Sessions and administration

export const loginBody = z.object({ email: z.string().max(320), password: z.string().max(1024) });
export type LoginBody = z.infer<typeof loginBody>;
export const meBody = z.object({ email: z.string() });
export const okBody = z.object({ ok: z.boolean() });

export const createApiKeyBody = z
  .object({
    name: z.string().max(200),
    expiresAt: z.string().max(64).optional().describe('ISO 8601; omitted: never.'),
  })
  .meta({ examples: [{ name: 'ci' }] });
export type CreateApiKeyBody = z.infer<typeof createApiKeyBody>;

export const apiKeyBody = z.object({
  id: z.string(),
  name: z.string(),
  prefix: z.string(),
  createdAt: z.string(),
  expiresAt: z.string().nullable(),
  revokedAt: z.string().nullable(),
  lastUsedAt: z.string().nullable(),
});
export type ApiKeyBody = z.infer<typeof apiKeyBody>;
export const newApiKeyBody = apiKeyBody.extend({ apiKey: z.string().describe('Shown this once.') });

const usage = z.object({ usedBytes: z.number(), capacityBytes: z.number() });
export const overviewBody = z.object({
  counts: z.object({ activeVms: z.number(), snapshots: z.number(), templates: z.number() }),
  cpu: z.object({ usagePct: z.number().nullable(), capacityCores: z.number(), usedCores: z.number() }),
  memory: usage,
  storage: usage,
});

export const activityQuery = z.object({ limit: z.number().optional().describe('1 to 200, default 50.') });
export type ActivityQuery = z.infer<typeof activityQuery>;

export const activityBody = z.object({
  id: z.string(),
  createdAt: z.string(),
  type: z.string(),
  entityType: z.string().optional(),
  entityId: z.string().optional(),
  message: z.string(),
  metaJson: z.string().optional(),
});
