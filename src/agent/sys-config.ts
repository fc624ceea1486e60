import { BerthError } from '../common/errors.ts';

/** What the host tells a VM: `.sys-config.json`. */
export interface SysConfig {
  readonly kmsUrls: readonly string[];
  /** JSON as text, which goes into quotes as it is; empty when there is none. */
  readonly vmConfig: string;
  /** 32 bytes: the image that the host says it booted. */
  readonly osImageHash: Buffer | null;
}

/**
 * @param text null when there is no such file
 * @throws BerthError invalid_argument
 */
export function parseSysConfig(text: string | null): SysConfig {
  try {
    const { kms_urls: urls, vm_config: vmConfig } = JSON.parse(text ?? '{}') as Record<string, unknown>;
    const config = typeof vmConfig === 'string' ? vmConfig : '';
    return {
      kmsUrls: Array.isArray(urls) ? urls.filter((url) => typeof url === 'string') : [],
      vmConfig: config,
      osImageHash: config === '' ? null : readImageHash(JSON.parse(config)),
    };
  } catch (error) {
    throw new BerthError('invalid_argument', { reason: "the host's configuration cannot be read" }, error);
  }
}

function readImageHash(vmConfig: unknown): Buffer | null {
  const { os_image_hash: hash } = vmConfig as { os_image_hash?: unknown };
  return typeof hash === 'string' && /^[0-9a-f]{64}$/i.test(hash) ? Buffer.from(hash, 'hex') : null;
}
