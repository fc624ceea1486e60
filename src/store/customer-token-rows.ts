import { CredentialRows, credentialColumns, type StoredCredential } from './credential-rows.ts';
import type { Database } from './database.ts';

/** A customer's token. */
export interface StoredCustomerToken extends StoredCredential {
  readonly customer: string;
}

export class CustomerTokenRows extends CredentialRows<StoredCustomerToken> {
  constructor(db: Database) {
    super(db, 'customer_tokens', { ...credentialColumns, customer: 'customer' });
  }

  /** Oldest first; of one customer when one is given. */
  async list(customer: string | null): Promise<readonly StoredCustomerToken[]> {
    return customer === null
      ? this.select('ORDER BY created_at, id')
      : this.select('WHERE customer = ? ORDER BY created_at, id', customer);
  }
}
