// Runs in the guest, in front of runners/deno.js or runners/node.js. Plain JavaScript without imports, because all of it
// reaches the runtime as one program on standard input. What user code could replace is taken before that code runs.

const takeJson = JSON.stringify;
const takeHex = Function.prototype.call.bind(Number.prototype.toString);

/** JSON text of any value: bigint as decimal string, a reference to an ancestor as "[Circular]". undefined: none. */
function toJson(value) {
  const ancestors = [];
  return takeJson(value, function replace(_key, item) {
    if (typeof item === 'bigint') return `${item}`;
    if (typeof item !== 'object' || item === null) return item;
    while (ancestors.length > 0 && ancestors[ancestors.length - 1] !== this) ancestors.pop();
    if (ancestors.includes(item)) return '[Circular]';
    ancestors.push(item);
    return item;
  });
}

/** What the client is shown of something thrown or given to result.error. */
function describeError(value) {
  if (typeof value !== 'object' || value === null) return { name: 'Error', message: String(value) };
  if (!(value instanceof Error) && !('name' in value || 'message' in value || 'stack' in value)) return value;
  return {
    name: String(value.name ?? 'Error'),
    message: String(value.message ?? ''),
    stack: typeof value.stack === 'string' ? value.stack : undefined,
  };
}

/** The global `result` of user code, and the frame that carries what was given to it. */
// biome-ignore lint/correctness/noUnusedVariables: used by the runner that follows
function createResult(marker, maxBytes) {
  let value;
  let failure;
  let failed = false;
  const fail = (reason) => {
    failed = true;
    failure = reason;
  };
  const set = (next) => {
    value = next;
  };
  Object.defineProperty(globalThis, 'result', {
    value: Object.freeze({ set, error: fail }),
    configurable: true,
    writable: true,
  });

  /** The bytes of the frame, and whether the program failed. */
  function frame(encode) {
    let result = '';
    let error = '';
    try {
      result = toJson(value) ?? '';
      if (failed) error = toJson(describeError(failure)) ?? '';
    } catch (reason) {
      failed = true;
      error = toJson({ name: 'Error', message: `The result is not serializable: ${reason}` });
    }
    let payload = encode(`${result}\n${error}`);
    if (payload.length > maxBytes) {
      failed = true;
      payload = encode(`\n${toJson({ name: 'RangeError', message: `The result is larger than ${maxBytes} bytes` })}`);
    }
    const head = encode(marker + takeHex(payload.length, 16).padStart(8, '0'));
    const bytes = new Uint8Array(head.length + payload.length);
    bytes.set(head);
    bytes.set(payload, head.length);
    return { bytes, failed };
  }

  return { fail, frame };
}
