/** What this API needs of the host besides VMs. The daemon wires it to the store and the network. */

import type { ConnectError } from '@connectrpc/connect';

/** A customer's token as it is kept: the hash, never the secret. Times are ISO 8601. */
export interface CustomerToken {
  readonly id: string;
  readonly customer: string;
  /** SHA-256 of the whole token, in hex. */
  readonly hash: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
}

export interface CustomerTokenStore {
  find(id: string): Promise<CustomerToken | null>;
}

/** What guests are told of the host's network. */
export interface NetworkFacts {
  readonly gateway4: string | null;
  readonly gateway6: string | null;
  readonly nameservers: readonly string[];
}

/** Tells of calls to whoever follows them through several services. */
export interface CallTracer {
  /** `traceparent` is the caller's header, as it came. The function that is returned ends the span. */
  begin(call: {
    readonly path: string;
    readonly customer: string;
    readonly vmId?: string;
    readonly traceparent?: string;
  }): (failure: ConnectError | null) => void;
  /** Sends what is left, as far as that can be done soon; never rejects. */
  close(): Promise<void>;
}

/** One thing that has to work for the service to work. */
export interface HealthCheck {
  readonly name: string;
  /** Whether VMs cannot be run without it; otherwise the service is only degraded. */
  readonly vital: boolean;
  /** Rejects when it does not work; the reason goes to the log only. */
  run(): Promise<void>;
}
