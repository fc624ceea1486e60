import { field, message, optional, repeated } from '../message.ts';

/** A message with a field of every kind; the counterpart of `sample.proto`. */
const Inner = message('sample.Inner', { name: field(1, 'string'), size: field(3, 'uint64') });

export const Sample = message('sample.Sample', {
  text: field(1, 'string'),
  data: field(2, 'bytes'),
  flag: field(3, 'bool'),
  count: field(4, 'uint32'),
  big: field(5, 'uint64'),
  signed: field(6, 'int64'),
  inner: field(7, Inner),
  maybe_text: optional(8, 'string'),
  maybe_big: optional(9, 'uint64'),
  maybe_flag: optional(10, 'bool'),
  texts: repeated(11, 'string'),
  blobs: repeated(12, 'bytes'),
  counts: repeated(13, 'uint32'),
  inners: repeated(200, Inner),
});
