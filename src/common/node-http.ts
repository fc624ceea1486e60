import type Http from 'node:http';

/**
 * Node's HTTP server. An import of `node:http` reads everything that the module exports, and with that loads the browser's
 * WebSocket and fetch, which no server here has a use for: 15 MB of every process.
 */
export const { createServer }: typeof Http = process.getBuiltinModule('node:http');
