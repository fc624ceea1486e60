import { runCommand } from '../../src/common/command.ts';

export interface CurlAnswer {
  readonly status: number;
  /** The body as JSON; null when there is none. */
  // biome-ignore lint/suspicious/noExplicitAny: replies are asserted on, not typed.
  readonly json: any;
}

/** Runs one curl command as a reader would. */
export async function curl(command: string): Promise<CurlAnswer> {
  const { stdout } = await runCommand('sh', ['-euc', `curl -sS -w '\\n%{http_code}' ${command}`], {
    timeoutMs: 120_000,
  });
  const cut = stdout.lastIndexOf('\n');
  const body = stdout.slice(0, cut);
  return { status: Number(stdout.slice(cut + 1)), json: body === '' ? null : JSON.parse(body) };
}

/** Status and version of HTTP, `200 2`, by a curl that trusts one certificate; `000 0` when that is not the server's. */
export async function curlTls(
  url: string,
  { ca, token, flag }: { readonly ca: string; readonly token: string; readonly flag: '--http1.1' | '--http2' },
): Promise<string> {
  const script = `curl -sS ${flag} --cacert "$CA" -o /dev/null -w '%{http_code} %{http_version}' \
    -H "Authorization: Bearer $TOKEN" "$URL" || true`;
  const env = { ...process.env, CA: ca, TOKEN: token, URL: url };
  return (await runCommand('sh', ['-c', script], { env })).stdout;
}
