/** The part of Bun's own module that is used here. */
declare module 'bun:ffi' {
  type Type = 'i32' | 'u32' | 'i64_fast' | 'u64_fast' | 'ptr'
  interface Signature {
    args: readonly Type[]
    returns: Type
  }
  /** Opens a shared library. A result of type `i64_fast` is a number as long as a number can hold it. */
  export function dlopen<Names extends string>(
    library: string,
    symbols: Record<Names, Signature>,
  ): { symbols: Record<Names, (...args: (number | ArrayBufferView)[]) => number> }
  export const read: { i32(address: number): number }
}
