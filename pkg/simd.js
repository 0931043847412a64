// Which of wasm's SIMD extensions this browser supports. The package has two wasm files, one of them compiled for fused multiply-add
// (relaxed-simd), which not every browser supports.

/** A module of one function, () -> v128. @param {number[]} code */
const moduleOf = (code) => [
  ...[0, 97, 115, 109, 1, 0, 0, 0], // magic number, version
  ...[1, 5, 1, 96, 0, 1, 123], // types: () -> v128
  ...[3, 2, 1, 0], // one function of type 0
  ...[10, code.length + 4, 1, code.length + 2, 0, ...code, 11], // its body, without locals
];
const SPLATS = [65, 1, 253, 15, 65, 2, 253, 15]; // i8x16.splat, twice

/** Tests for relaxed-simd by i8x16.relaxed_swizzle; the service worker uses it too. */
export const PROBE = moduleOf([...SPLATS, 253, 128, 2]);

/** @param {number[]} bytes */
const valid = (bytes) => typeof WebAssembly === 'object' && WebAssembly.validate(new Uint8Array(bytes));

/** @returns {boolean} */
export const hasRelaxedSimd = () => valid(PROBE);

/** Whether SIMD is supported at all, tested by i8x16.swizzle. @returns {boolean} */
export const hasSimd = () => valid(moduleOf([...SPLATS, 253, 14]));
