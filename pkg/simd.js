// Which of the package's two wasm files this browser runs: one is compiled for fused multiply-add (relaxed-simd), which not
// every browser has. Both give the same keypoints to a thousandth of the crop's side.

/** A module of one function, which uses one instruction of relaxed-simd. */
export const PROBE = [
  ...[0, 97, 115, 109, 1, 0, 0, 0], // magic number, version
  ...[1, 5, 1, 96, 0, 1, 123], // types: () -> v128
  ...[3, 2, 1, 0], // one function of type 0
  ...[10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11], // i8x16.relaxed_swizzle of two splats
];

/** @returns {boolean} */
export function hasRelaxedSimd() {
  return WebAssembly.validate(new Uint8Array(PROBE));
}

/** The file to load where the caller names none. Both addresses stand in full: bundlers recognise them. @returns {URL} */
export function defaultWasmUrl() {
  return hasRelaxedSimd()
    ? new URL('./dist/face96_relaxed_bg.wasm', import.meta.url)
    : new URL('./dist/face96_bg.wasm', import.meta.url);
}
