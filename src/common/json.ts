/**
 * Reads JSON from outside. Its texts are Unicode: half of a surrogate pair, which only an escape can name, could neither be
 * stored nor sent on as it came. Throws SyntaxError.
 */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  if (surrogateEscape.test(text)) requireWellFormed(value);
  return value;
}

const surrogateEscape = /\\ud[89a-f]/i;

function requireWellFormed(value: unknown): void {
  // Not by recursion: the sender chooses how deep it is.
  const rest: unknown[] = [value];
  while (rest.length > 0) {
    const next = rest.pop();
    if (typeof next === 'string' && !next.isWellFormed()) throw new SyntaxError('a text is not well-formed Unicode');
    if (typeof next === 'object' && next !== null) for (const [key, item] of Object.entries(next)) rest.push(key, item);
  }
}
