/** Sizes of the HTTP/2 session with a guest. */

import type { ClientSessionOptions } from 'node:http2';

/** Bytes a guest may send ahead of what is read here: per operation, and for all of them. */
const STREAM_WINDOW = 1024 * 1024;
export const SESSION_WINDOW = 32 * 1024 * 1024;

/** Requests a guest serves at a time. */
const MAX_REQUESTS = 128;
/** Those among them that last as long as their caller likes; the rest is left to short ones, such as a power-off. */
export const MAX_LONG_REQUESTS = MAX_REQUESTS - 16;

export const sessionOptions: ClientSessionOptions = {
  settings: { initialWindowSize: STREAM_WINDOW, enablePush: false, maxHeaderListSize: 8192 },
  // Counted in megabytes by Node: above the session's window, so that a full window is no reason to refuse a stream.
  maxSessionMemory: 128,
  peerMaxConcurrentStreams: MAX_REQUESTS,
};

/** Longest argv and environment of an exec together, in bytes; the guest refuses more. */
export const MAX_EXEC_BYTES = 2 * 1024 * 1024;
