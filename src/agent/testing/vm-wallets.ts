/** A program of an app in a VM: makes wallets of its keys by the SDK's helpers, and prints what they signed as one line of JSON. */

import { DstackClient } from '@phala/dstack-sdk';
import { toKeypairSecure } from '@phala/dstack-sdk/solana';
import { toViemAccountSecure } from '@phala/dstack-sdk/viem';

/** What the program prints. */
export interface VmWallets {
  readonly ethereum: { readonly address: `0x${string}`; readonly signature: `0x${string}` };
  /** The public key, Base58. */
  readonly solana: string;
}

async function main(): Promise<VmWallets> {
  const client = new DstackClient();
  const account = toViemAccountSecure(await client.getKey('wallet/ethereum'));
  const wallet = toKeypairSecure(await client.getKey('wallet/solana'));
  return {
    ethereum: { address: account.address, signature: await account.signMessage({ message: 'hello' }) },
    solana: wallet.publicKey.toBase58(),
  };
}

main().then((wallets) => console.log(JSON.stringify(wallets)));
