import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../../common/command.ts';
import { quotedPcrs } from '../tpm/registers.ts';
import { selection } from '../tpm/tools.ts';
import { parseTpmQuote, qualifyingData } from '../tpm/tpm-quote.ts';
import { toPem } from '../x509/pem.ts';

/** Has tpm2-tools check a TPM quote, which no TPM is needed for. Rejects unless they accept it for the 64 bytes of report data. */
export async function checkQuote(quote: Buffer, reportData: Buffer): Promise<void> {
  const { attest, signature, publicKey, pcrs } = parseTpmQuote(quote);
  const directory = await mkdtemp(join(tmpdir(), 'berth-quote-'));
  try {
    const files = { attest, signature, pcrs: Buffer.concat(pcrs), 'key.pem': toPem(publicKey, 'PUBLIC KEY') };
    for (const [name, content] of Object.entries(files)) await writeFile(join(directory, name), content);
    const parts = ['-u', 'key.pem', '-m', 'attest', '-s', 'signature', '-f', 'pcrs', '-l', selection(quotedPcrs)];
    const nonce = ['-g', 'sha256', '-q', qualifyingData(reportData).toString('hex')];
    await runCommand('tpm2_checkquote', [...parts, ...nonce], { cwd: directory });
  } finally {
    await rm(directory, { recursive: true });
  }
}
