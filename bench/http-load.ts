import autocannon from 'autocannon';

/** What is sent, where it is not a GET. */
export interface Call {
  readonly method: 'POST';
  readonly body: string;
}

interface LoadOptions {
  readonly connections?: number;
  readonly request?: Call;
}

/**
 * Requests a second, mean of a bounded load that a thread of its own makes. Any reply that is not 2xx fails the run.
 */
export async function load(
  url: string,
  headers: Record<string, string>,
  seconds: number,
  { connections = 16, request }: LoadOptions = {},
): Promise<number> {
  const result = await autocannon({
    url,
    headers,
    connections,
    duration: seconds,
    workers: 1,
    ...(request === undefined ? {} : { method: request.method, body: request.body }),
  });
  if (result.non2xx > 0 || result.errors > 0)
    throw new Error(`${url}: ${result.non2xx} replies that are not 2xx, ${result.errors} errors`);
  return result.requests.average;
}
