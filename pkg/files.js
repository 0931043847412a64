// The package's own files. They lie beside this one; inline/files.js stands in for it where they are inside.
import { hasRelaxedSimd } from './simd.js';

/** By a name of its own: newer versions of TypeScript write it in a way that older ones cannot read. @typedef {Uint8Array} Bytes */
/** An address, or the bytes themselves. @typedef {string | Bytes} Source */

/**
 * Where an engine gets what it needs; no finder where it is null.
 * @typedef {{ wasm: Source, weights: Source, finder: Source | null }} Files
 */

/**
 * Each `new URL(...)` stands in full, and `new Worker` around it: bundlers recognise them.
 * @type {{ wasm: () => Source | Promise<Source>, weights: () => Source | Promise<Source>, finder: () => Source | Promise<Source>,
 *   workers: (() => Worker)[] }} workers: ways to start one, to be tried in turn
 */
export const own = {
  // Both give the same keypoints to a thousandth of the crop's side.
  wasm: () =>
    (hasRelaxedSimd()
      ? new URL('./dist/face96_relaxed_bg.wasm', import.meta.url)
      : new URL('./dist/face96_bg.wasm', import.meta.url)
    ).href,
  weights: () => new URL('./weights/compact.safetensors', import.meta.url).href,
  finder: () => new URL('./weights/finder.safetensors', import.meta.url).href,
  workers: [() => new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'face96' })],
};
