/**
 * The load of bench/agent.ts inside a VM, one call at a time: each method in turns with a server that answers a constant.
 * Prints the milliseconds of each as one line of JSON.
 */

import { createServer, request } from 'node:http';

const rounds = 60;
const warmUp = 10;
const floorSocket = '/run/floor.sock';

/** Calls by name: a path and a body for the nth time. */
const calls: Readonly<Record<string, (n: number) => readonly [path: string, body: object]>> = {
  GetKey: (n) => ['/GetKey', { path: `bench/${n}`, purpose: 'signing' }],
  GetQuote: (n) => ['/GetQuote', { report_data: n.toString(16).padStart(64, '0') }],
  GetTlsKey: () => ['/GetTlsKey', { subject: 'localhost', alt_names: ['localhost'], usage_ra_tls: true }],
};

async function main(): Promise<Record<string, number[]>> {
  const constant = JSON.stringify({ key: '00'.repeat(32), signature_chain: ['00'.repeat(65), '00'.repeat(65)] });
  const server = createServer((incoming, reply) => {
    incoming.resume();
    reply.writeHead(200, { 'content-type': 'application/json', 'content-length': constant.length });
    reply.end(constant);
  });
  await new Promise<void>((resolve) => server.listen(floorSocket, resolve));
  const times: Record<string, number[]> = {
    floor: [],
    ...Object.fromEntries(Object.keys(calls).map((name) => [name, []])),
  };
  for (let n = 0; n < rounds; n++) {
    times.floor!.push(await time(floorSocket, '/', {}));
    for (const [name, call] of Object.entries(calls)) times[name]!.push(await time('/run/dstack.sock', ...call(n)));
  }
  server.close();
  return Object.fromEntries(Object.entries(times).map(([name, values]) => [name, values.slice(warmUp)]));
}

async function time(socketPath: string, path: string, body: object): Promise<number> {
  const content = JSON.stringify(body);
  const started = performance.now();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const headers = { 'content-type': 'application/json', 'content-length': content.length };
  const sent = request({ socketPath, path, method: 'POST', headers, agent: false }, (reply) => {
    if (reply.statusCode !== 200) reject(new Error(`${path}: ${reply.statusCode}`));
    reply.resume();
    reply.on('end', resolve);
  });
  sent.on('error', reject);
  sent.end(content);
  await promise;
  return performance.now() - started;
}

main().then((times) => console.log(JSON.stringify(times)));
