/** What the agent writes down. Never given secrets: no keys, request bodies or quotes. */
export interface AgentLog {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/**
 * JSON lines on standard error. A logging library costs megabytes and start-up time, of which there is little in a VM.
 * @param debug writes what `debug` says too
 */
export function consoleLog({ debug = false }: { readonly debug?: boolean } = {}): AgentLog {
  const at = (level: string) => (fields: object, text: string) => {
    const line = JSON.stringify({ level, time: Date.now(), ...plain(fields), msg: text });
    process.stderr.write(`${line}\n`);
  };
  return { debug: debug ? at('debug') : () => {}, info: at('info'), error: at('error') };
}

/** Errors have nothing of their own that JSON shows. */
function plain(fields: object): object {
  const entries = Object.entries(fields);
  return Object.fromEntries(entries.map(([name, value]) => [name, value instanceof Error ? value.stack : value]));
}
