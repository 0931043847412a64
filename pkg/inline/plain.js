// The wasm that every browser runs, as a module that bundlers can take inside. The package contains it once: browsers without relaxed-simd
// import it, and so does the package in one entry. tools/inline.js writes dist/plain.js from it.
import { wasm as packed } from './embedded-wasm.js';
import { unpack } from './unpack.js';

export const wasm = unpack(packed);
export { unpack };
