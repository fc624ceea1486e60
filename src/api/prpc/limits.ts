/** Bounds on what a sender controls. */

/** Bytes of one request's body. */
export const maxBodyBytes = 10 * 1024 * 1024;

/** Bytes of a query string; also what Node takes as a request line, more or less. */
export const maxQueryBytes = 16 * 1024;

/** Elements of one repeated field. */
export const maxElements = 65_536;

/** Messages inside messages. */
export const maxDepth = 16;
