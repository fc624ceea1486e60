import { DecodeError } from './decode-error.ts';
import { parseHex } from './hex.ts';
import { parseInteger } from './integers.ts';
import { maxDepth, maxElements, maxQueryBytes } from './limits.ts';
import { type AnyMessage, emptyMessage, type Field, type MessageType, type ScalarType } from './message.ts';

/** What a query string says, as a tree: `a[b]=c` is `a` holding `b`. */
interface Node {
  /** Values given to this very name, in order. */
  readonly values: string[];
  readonly children: Map<string, Node>;
}

/**
 * Reads the query string of a GET as a message: `path=a&alt_names[0]=x&alt_names[1]=y&inner[name]=z`. Lists are written
 * with indices, with `[]`, or by repeating the name. Fields nobody knows are ignored.
 * @throws {DecodeError} naming the field
 */
export function readQuery(type: MessageType, query: string): AnyMessage {
  if (query.length > maxQueryBytes) throw new DecodeError('the query is too long');
  return readMessage(type, parse(query), '');
}

function parse(query: string): Node {
  checkUtf8(query);
  const root: Node = { values: [], children: new Map() };
  for (const [key, value] of new URLSearchParams(query)) {
    let node = root;
    for (const name of pathOf(key)) {
      let child = node.children.get(name);
      if (child === undefined) {
        child = { values: [], children: new Map() };
        node.children.set(name, child);
      }
      node = child;
    }
    node.values.push(value);
  }
  return root;
}

/** Refuses escaped bytes that are not UTF-8, in whose place URLSearchParams puts one character for all. */
function checkUtf8(query: string): void {
  for (const [escaped] of query.matchAll(/(?:%[0-9a-f]{2})+/gi)) {
    try {
      decodeURIComponent(escaped);
    } catch {
      throw new DecodeError('the query is not UTF-8');
    }
  }
}

/** `a[0][b]` is a, 0, b. A key that is not written like that is one name. */
function pathOf(key: string): string[] {
  const match = /^([^[\]]+)((?:\[[^[\]]*\])*)$/.exec(key);
  if (!match) return [key];
  const inner = match[2]!.slice(1, -1);
  const path = match[2] === '' ? [match[1]!] : [match[1]!, ...inner.split('][')];
  if (path.length > maxDepth) throw new DecodeError(`${match[1]}: nested too deep`);
  return path;
}

function readMessage(type: MessageType, node: Node, where: string): AnyMessage {
  const values = emptyMessage(type);
  for (const [name, field] of Object.entries(type.fields)) {
    const child = node.children.get(name);
    if (child) values[name] = readField(field, child, where === '' ? name : `${where}.${name}`);
  }
  return values;
}

function readField(field: Field, node: Node, where: string): unknown {
  return field.label === 'repeated'
    ? elementsOf(node, where).map((each, index) => readOne(field.type, each, `${where}[${index}]`))
    : readOne(field.type, node, where);
}

/** The elements of a list: those with indices by index, then those without. */
function elementsOf(node: Node, where: string): Node[] {
  const numbered: [number, Node][] = [];
  const plain = node.values.map((value): Node => ({ values: [value], children: new Map() }));
  for (const [name, child] of node.children) {
    if (name === '') plain.push(...child.values.map((value): Node => ({ values: [value], children: new Map() })));
    else if (/^\d{1,9}$/.test(name)) numbered.push([Number(name), child]);
    else throw new DecodeError(`${where}[${name}]: expected an index`);
  }
  if (numbered.length + plain.length > maxElements)
    throw new DecodeError(`${where}: more than ${maxElements} elements`);
  return [...numbered.sort(([a], [b]) => a - b).map(([, child]) => child), ...plain];
}

function readOne(type: ScalarType | MessageType, node: Node, where: string): unknown {
  if (typeof type !== 'string') return readMessage(type, node, where);
  if (node.values.length > 1) throw new DecodeError(`${where}: given more than once`);
  const [text] = node.values;
  if (text === undefined) throw new DecodeError(`${where}: expected one value`);
  switch (type) {
    case 'string':
      return text;
    case 'bytes':
      return parseHex(text, where);
    case 'bool':
      if (text !== 'true' && text !== 'false') throw new DecodeError(`${where}: expected true or false`);
      return text === 'true';
    default:
      return parseInteger(text, type, where);
  }
}
