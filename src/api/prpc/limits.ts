/** Bounds on what a sender controls. */

/** Bytes of one request's body. */
export const maxBodyBytes = 10 * 1024 * 1024;

/**
 * Bytes of bodies that are held while they arrive, for all requests of the process together. The first 64 KiB of each do not
 * count, so that whoever sends large ones keeps nobody from sending small ones.
 */
export const maxHeldBytes = 64 * 1024 * 1024;
export const smallBodyBytes = 64 * 1024;

/** Bytes of a query string; also what Node takes as a request line, more or less. */
export const maxQueryBytes = 16 * 1024;

/**
 * Characters of a JSON text up to which integers may be larger than 2^53: reading them exactly takes a second for a megabyte, in
 * which nobody else is answered.
 */
export const maxExactCharacters = 64 * 1024;

/** Elements of one repeated field. */
export const maxElements = 65_536;

/** Messages inside messages. */
export const maxDepth = 16;
