import autocannon from 'autocannon';

/**
 * Requests a second, mean of a bounded load that a thread of its own makes. Any reply that is not 2xx fails the run.
 */
export async function load(
  url: string,
  headers: Record<string, string>,
  seconds: number,
  connections = 16,
): Promise<number> {
  const result = await autocannon({ url, headers, connections, duration: seconds, workers: 1 });
  if (result.non2xx > 0 || result.errors > 0)
    throw new Error(`${url}: ${result.non2xx} replies that are not 2xx, ${result.errors} errors`);
  return result.requests.average;
}
