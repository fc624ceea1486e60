/**
 * What a bench hands back: rows of one table, of the same shape for every subject. A row is a series of times (milliseconds)
 * or one quantity, beside the floor that was measured in the same run, and its target.
 */
export interface Row {
  readonly what: string;
  readonly measured: Cells;
  /** Null where there is nothing to compare with. */
  readonly floor: Floor | null;
  /** Measured over floor, for what is better small; floor over measured for rates. */
  readonly ratio: string;
  /** Empty where nothing is promised. */
  readonly target: string;
  readonly met: boolean;
}

interface Floor {
  readonly what: string;
  readonly text: string;
}

interface Cells {
  readonly n: string;
  /** The median, or the one value. */
  readonly p50: string;
  readonly p95: string;
  readonly p99: string;
}

/** Order statistics of one measured quantity. */
export interface Summary {
  readonly n: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  return { n: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

export interface TimesOptions {
  readonly what: string;
  /** Milliseconds, one for each time it was done. */
  readonly ms: readonly number[];
  /** The same thing done in the plainest way, taken in turns with what is measured, so that both meet the same noise. */
  readonly floor?: { readonly what: string; readonly ms: readonly number[] };
  /** Holds for the median, `p99Ms` for the 99th percentile. `ratio` is that of the medians. */
  readonly atMost?: { readonly ms: number } | { readonly p99Ms: number } | { readonly ratio: number };
}

/**
 * A row of times.
 *
 * @example times({ what: 'clone', ms: clones, floor: { what: 'bare QEMU', ms: bare }, atMost: { ratio: 1.15 } })
 */
export function times({ what, ms, floor, atMost }: TimesOptions): Row {
  const measured = summarize(ms);
  const below = floor === undefined ? null : summarize(floor.ms);
  const ratio = below === null ? Number.NaN : measured.p50 / below.p50;
  const { target, met } = timesTarget(atMost, measured, ratio);
  return {
    what,
    measured: {
      n: String(measured.n),
      p50: msText(measured.p50),
      p95: msText(measured.p95),
      p99: msText(measured.p99),
    },
    floor:
      below === null ? null : { what: floor!.what, text: [below.p50, below.p95, below.p99].map(msText).join(' / ') },
    ratio: below === null ? '' : `${ratio.toFixed(2)}, p99 ${(measured.p99 / below.p99).toFixed(2)}`,
    target,
    met,
  };
}

function timesTarget(atMost: TimesOptions['atMost'], measured: Summary, ratio: number) {
  if (atMost === undefined) return { target: '', met: true };
  if ('p99Ms' in atMost) return { target: `p99 at most ${atMost.p99Ms} ms`, met: measured.p99 <= atMost.p99Ms };
  return 'ms' in atMost
    ? { target: `p50 at most ${atMost.ms} ms`, met: measured.p50 <= atMost.ms }
    : { target: `p50 at most ${atMost.ratio} times the floor`, met: ratio <= atMost.ratio };
}

export interface QuantityOptions {
  readonly what: string;
  readonly value: number;
  /** Follows the number: ` MiB`, `/s`. */
  readonly unit: string;
  readonly floor?: { readonly what: string; readonly value: number };
  readonly atMost?: number;
  /** For rates: more is better. */
  readonly atLeast?: number;
}

/** A row of one number, rounded to a whole one. */
export function quantity({ what, value, unit, floor, atMost, atLeast }: QuantityOptions): Row {
  const text = (number: number) => `${Math.round(number)}${unit}`;
  const targets = [
    ...(atLeast === undefined ? [] : [`at least ${text(atLeast)}`]),
    ...(atMost === undefined ? [] : [`at most ${text(atMost)}`]),
  ];
  const ratio = floor === undefined ? null : atLeast === undefined ? value / floor.value : floor.value / value;
  return {
    what,
    measured: { n: '', p50: text(value), p95: '', p99: '' },
    floor: floor === undefined ? null : { what: floor.what, text: text(floor.value) },
    ratio: ratio === null ? '' : ratio.toFixed(2),
    target: targets.join(', '),
    met: value >= (atLeast ?? -Infinity) && value <= (atMost ?? Infinity),
  };
}

/** The rows as a Markdown table. */
export function table(rows: readonly Row[]): string {
  const header = ['What', 'N', 'p50 or value', 'p95', 'p99', 'Floor (p50 / p95 / p99)', 'Ratio', 'Target', 'Met'];
  const body = rows.map(({ what, measured: { n, p50, p95, p99 }, floor, ratio, target, met }) => [
    ...[what, n, p50, p95, p99],
    floor === null ? '' : `${floor.text} (${floor.what})`,
    ...[ratio, target, target === '' ? '' : met ? 'yes' : 'NO'],
  ]);
  const widths = header.map((title, column) => Math.max(title.length, ...body.map((cells) => cells[column]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [line(header), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...body.map(line)].join('\n');
}

function msText(value: number): string {
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
}

/** The value in the middle. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
