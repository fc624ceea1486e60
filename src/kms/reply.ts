/**
 * The fields of a KMS's reply. Checked one by one and not by a schema library, which would be a large part of the program
 * that runs in a VM. Throws an Error that names the field, and never its content.
 */
export class Reply {
  readonly #json: Readonly<Record<string, unknown>>;

  constructor(json: unknown) {
    if (typeof json !== 'object' || json === null) throw new Error('the KMS sent no message');
    this.#json = json as Readonly<Record<string, unknown>>;
  }

  text(name: string): string {
    const value = this.#json[name];
    if (typeof value !== 'string') throw wrong(name);
    return value;
  }

  texts(name: string): string[] {
    const value = this.#json[name];
    if (!Array.isArray(value) || value.length === 0 || value.some((each) => typeof each !== 'string'))
      throw wrong(name);
    return value;
  }

  bytes(name: string): Buffer {
    const text = this.text(name);
    if (!/^(?:[0-9a-f]{2})*$/i.test(text)) throw wrong(name);
    return Buffer.from(text, 'hex');
  }
}

function wrong(name: string): Error {
  return new Error(`${name} in the reply of the KMS is not what it should be`);
}
