/**
 * The one catalogue of errors. Every failure a client may see is a row here: a stable code, the HTTP and Connect
 * statuses, a message and what to do about it. API folders print rows in their own shape; nothing else reaches a client.
 */

export type ConnectCodeName =
  | 'invalid_argument'
  | 'not_found'
  | 'already_exists'
  | 'permission_denied'
  | 'unauthenticated'
  | 'failed_precondition'
  | 'resource_exhausted'
  | 'deadline_exceeded'
  | 'unavailable'
  | 'aborted'
  | 'unimplemented'
  | 'internal';

interface CatalogueRow {
  readonly http: number;
  readonly connect: ConnectCodeName;
  /** `{name}` is replaced by the parameter of that name. */
  readonly message: string;
  /** What the caller or operator can do about it. */
  readonly advice: string;
}

export const catalogue = {
  invalid_argument: row(400, 'invalid_argument', '{reason}', 'Correct the named field and send the request again.'),
  invalid_cidr: row(
    400,
    'invalid_argument',
    'Invalid IP address or CIDR: {value}',
    'Use an address or prefix such as 10.0.0.0/8 or 2001:db8::/32.',
  ),
  unauthenticated: row(401, 'unauthenticated', 'Unauthorized', 'Send a valid API key or session.'),
  permission_denied: row(403, 'permission_denied', 'Permission denied', 'Use credentials that own the resource.'),
  vm_not_found: row(404, 'not_found', 'VM {id} not found', 'List the VMs to see which exist.'),
  vm_not_owned: row(
    403,
    'permission_denied',
    'VM {id} not found or not owned by the caller',
    'Use credentials that own the VM.',
  ),
  vm_exists: row(409, 'already_exists', 'VM {id} already exists', 'Choose another id.'),
  image_not_found: row(404, 'not_found', 'Image not found', 'List the images to see which exist.'),
  image_incomplete: row(400, 'failed_precondition', 'Image is missing kernel or rootfs', 'Upload the missing file.'),
  image_in_use: row(409, 'failed_precondition', 'Image is in use by an active VM', 'Remove the VMs that use it first.'),
  image_invalid: row(
    400,
    'invalid_argument',
    'Invalid image file: {reason}',
    'Upload an ELF or bzImage kernel, or an ext4 root filesystem.',
  ),
  no_default_image: row(
    400,
    'failed_precondition',
    'No default image configured; upload an image and set it as default',
    'Run `berth image build sandbox`, or set a default image.',
  ),
  snapshot_not_found: row(404, 'not_found', 'Snapshot not found', 'List the snapshots to see which exist.'),
  snapshot_mismatch: row(
    400,
    'failed_precondition',
    'Snapshot does not fit: {reason}',
    'Use the settings the snapshot was made with.',
  ),
  snapshot_in_use: row(
    409,
    'failed_precondition',
    'Snapshot is in use',
    'Wait until the VMs that are being made from it are up.',
  ),
  snapshot_damaged: row(409, 'failed_precondition', 'Snapshot artifacts missing or damaged', 'Make a new snapshot.'),
  asset_unusable: row(
    409,
    'failed_precondition',
    'The file for {what} is gone or has changed since the VM was made',
    'Put the file back, or make the VM again.',
  ),
  wrong_state: row(
    409,
    'failed_precondition',
    'VM must be {expected} (state={actual})',
    'Bring the VM into that state first.',
  ),
  conflict: row(409, 'aborted', '{reason}', 'Read the current state and try again.'),
  quota_exceeded: row(
    429,
    'resource_exhausted',
    '{resource} quota exceeded ({limit})',
    'Remove VMs, ask for less, or raise the limit.',
  ),
  payload_too_large: row(413, 'resource_exhausted', 'Body too large', 'Send less.'),
  insufficient_storage: row(507, 'resource_exhausted', 'Not enough disk space', 'Free disk space on the host.'),
  host_disk_full: row(
    507,
    'resource_exhausted',
    'The VM is paused because the disk of the host is full; it goes on by itself when there is space again',
    'Free disk space on the host, or remove VMs.',
  ),
  guest_busy: row(
    429,
    'resource_exhausted',
    'The VM has as many commands and transfers under way as it can ({limit})',
    'Wait until some of them have ended.',
  ),
  guest_unavailable: row(503, 'unavailable', 'The guest does not answer', 'Look at the console log; restart the VM.'),
  guest_interrupted: row(
    502,
    'unavailable',
    'The connection to the guest was lost; the command may have run and was not repeated',
    'Check in the VM what was done.',
  ),
  method_not_found: row(
    404,
    'unimplemented',
    'Service not found: {name}',
    'Look at the list of methods; names are case-sensitive.',
  ),
  route_not_found: row(404, 'not_found', 'Not Found', 'Check the path and the HTTP method.'),
  container_not_found: row(404, 'not_found', 'Container not found', 'List the containers to see which exist.'),
  containers_unavailable: row(
    500,
    'unavailable',
    'The container engine does not answer',
    'Check that Docker runs in the VM.',
  ),
  guest_rejected: row(400, 'invalid_argument', '{reason}', 'Correct the request.'),
  deadline_exceeded: row(504, 'deadline_exceeded', '{operation} took too long', 'Try again, or allow more time.'),
  boot_failed: row(500, 'internal', 'The VM did not start: {reason}', 'Look at the console log and check the image.'),
  network_failed: row(500, 'internal', 'The network could not be set up', 'Run `berth doctor`.'),
  unsupported: row(501, 'unimplemented', '{feature} is not available on this host', 'Run `berth doctor` to see why.'),
  shutting_down: row(503, 'unavailable', 'The daemon is shutting down', 'Try again once it runs.'),
  internal: row(500, 'internal', 'Internal Server Error', 'Look at the daemon log.'),
} as const satisfies Record<string, CatalogueRow>;

export type ErrorCode = keyof typeof catalogue;
export type ErrorParams = Readonly<Record<string, string | number>>;

function row(http: number, connect: ConnectCodeName, message: string, advice: string): CatalogueRow {
  return { http, connect, message, advice };
}

/**
 * A failure from the catalogue. `message` is safe to show to a client; `cause` is for the log and is never sent.
 *
 * @example throw new BerthError('vm_not_found', { id })
 */
export class BerthError extends Error {
  readonly code: ErrorCode;
  readonly params: ErrorParams;

  constructor(code: ErrorCode, params: ErrorParams = {}, cause?: unknown) {
    super(
      catalogue[code].message.replace(/\{(\w+)\}/g, (_, name: string) => String(params[name] ?? '')),
      cause === undefined ? undefined : { cause },
    );
    this.name = 'BerthError';
    this.code = code;
    this.params = params;
  }

  get http(): number {
    return catalogue[this.code].http;
  }

  get connect(): ConnectCodeName {
    return catalogue[this.code].connect;
  }

  get advice(): string {
    return catalogue[this.code].advice;
  }
}

/** SQLite's own number for it. */
const sqliteFull = 13;

/** Whether something failed because the file system it writes to has no space left. */
export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return ('code' in error && error.code === 'ENOSPC') || ('errcode' in error && error.errcode === sqliteFull);
}

/** Anything thrown, as a catalogue error: unknown failures become `internal` with the original kept as the cause. */
export function toBerthError(error: unknown): BerthError {
  if (error instanceof BerthError) return error;
  return new BerthError(isDiskFull(error) ? 'insufficient_storage' : 'internal', {}, error);
}
