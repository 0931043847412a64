// The package's own files, which lie beside this one; inline/files.js replaces it where they are embedded.
import { Face96Error, asFace96Error } from './errors.js';
import { hasRelaxedSimd } from './simd.js';

/** Has a name of its own, because newer versions of TypeScript write it in a way that older ones cannot read. @typedef {Uint8Array} Bytes */
/** An address, or the bytes themselves. @typedef {string | Bytes} Source */

/**
 * The sources of an engine's files; a null finder means none.
 * @typedef {{ wasm: Source, weights: Source, finder: Source | null }} Files
 */

/** The wasm without relaxed-simd. */
const plain = () =>
  import('./dist/plain.js').then(
    ({ wasm }) => wasm(),
    (error) => {
      const why = asFace96Error(error, 'wasm-fetch').message;
      throw new Face96Error('wasm-fetch', `Could not import dist/plain.js: ${why}.`, { cause: error });
    },
  );

/**
 * Each `new URL(...)` is written in full, with `new Worker` around it, because bundlers recognise only that.
 * @type {{ wasm: () => Source | Promise<Source>, weights: () => Source | Promise<Source>, finder: () => Source | Promise<Source>,
 *   workers: (() => Worker)[] }} workers: ways to start one, to be tried in turn
 */
export const own = {
  // Both give the same keypoints to a thousandth of the crop's side.
  wasm: () => (hasRelaxedSimd() ? new URL('./dist/face96_relaxed_bg.wasm', import.meta.url).href : plain()),
  weights: () => new URL('./weights/compact.safetensors', import.meta.url).href,
  finder: () => new URL('./weights/finder.safetensors', import.meta.url).href,
  workers: [() => new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'face96' })],
};
