import { createPublicKey, diffieHellman, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { hsalsa, secretbox } from '@noble/ciphers/salsa';
import { blake2b } from '@noble/hashes/blake2';

/**
 * libsodium's sealed boxes (crypto_box_seal): to whoever has an X25519 key, from nobody in particular.
 * Box: ephemeral public key (32) ‖ XSalsa20-Poly1305 of the message.
 */

const KEY_BYTES = 32;
const NONCE_BYTES = 24;
const spkiHead = Buffer.from('302a300506032b656e032100', 'hex');

/** A new key pair; the public key as its 32 bytes. */
export function boxKeyPair(): { readonly privateKey: KeyObject; readonly publicKey: Buffer } {
  const { privateKey } = generateKeyPairSync('x25519');
  return { privateKey, publicKey: publicBytes(privateKey) };
}

export function sealBox(receiver: Uint8Array, message: Uint8Array): Buffer {
  const { privateKey, publicKey } = boxKeyPair();
  const box = secretbox(boxKey(privateKey, receiver), nonce(publicKey, receiver)).seal(message);
  return Buffer.concat([publicKey, box]);
}

/** @throws Error when the box is another's or was changed */
export function openBox(privateKey: KeyObject, box: Uint8Array): Buffer {
  const sender = box.subarray(0, KEY_BYTES);
  if (sender.length < KEY_BYTES) throw new Error('the sealed box is cut off');
  const own = publicBytes(privateKey);
  return Buffer.from(secretbox(boxKey(privateKey, sender), nonce(sender, own)).open(box.subarray(KEY_BYTES)));
}

function nonce(sender: Uint8Array, receiver: Uint8Array): Uint8Array {
  return blake2b(Buffer.concat([sender, receiver]), { dkLen: NONCE_BYTES });
}

/** crypto_box_beforenm: HSalsa20 of the shared secret. */
function boxKey(privateKey: KeyObject, publicKey: Uint8Array): Uint8Array {
  const peer = createPublicKey({ key: Buffer.concat([spkiHead, publicKey]), format: 'der', type: 'spki' });
  const shared = diffieHellman({ privateKey, publicKey: peer });
  const key = new Uint32Array(KEY_BYTES / 4);
  hsalsa(words(Buffer.from('expand 32-byte k')), words(shared), new Uint32Array(4), key);
  const bytes = Buffer.alloc(KEY_BYTES);
  for (const [index, word] of key.entries()) bytes.writeUInt32LE(word, index * 4);
  return bytes;
}

function words(bytes: Buffer): Uint32Array {
  return Uint32Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(index * 4));
}

function publicBytes(privateKey: KeyObject): Buffer {
  return createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(spkiHead.length);
}
