// The program's own animated face: a sample for pages without a camera, and test data with exact keypoints.
import { SyntheticFace } from './dist/face96.js';
import { own } from './files.js';
import { base } from './source.js';
import { loadWasm, ownFile, wasmInstance } from './wasm.js';

/** @typedef {import('./crop.js').Box} Box */

/**
 * @typedef {object} FaceAnimation
 * @property {(seconds: number) => ImageData} draw the picture at that time
 * @property {(seconds: number) => { x: number, y: number }[]} keypoints exact, in pixels of that picture
 * @property {(seconds: number) => Box} box the square that a detector expects around that face
 * @property {() => void} close frees the memory
 */

/**
 * @param {{ seed?: number, width?: number, height?: number, wasmUrl?: string | URL }} [options] the same seed draws the same face
 * @returns {Promise<FaceAnimation>}
 * @throws {import('./errors.js').Face96Error} `wasm-fetch`, `wasm-compile`
 */
export async function createSyntheticFace({ seed = 1, width = 640, height = 480, wasmUrl } = {}) {
  await loadWasm(wasmUrl ? new URL(wasmUrl, base()).href : await ownFile(own.wasm));
  const instance = wasmInstance();
  const face = new SyntheticFace(seed, width, height);
  return {
    draw(seconds) {
      const data = new Uint8ClampedArray(face.draw(seconds));
      // A server has no ImageData; detect() also takes an object with the same properties.
      return typeof ImageData === 'function'
        ? new ImageData(data, width, height)
        : /** @type {ImageData} */ ({ data, width, height });
    },
    keypoints(seconds) {
      const flat = face.keypoints(seconds);
      return Array.from({ length: flat.length / 2 }, (_, k) => ({ x: flat[2 * k], y: flat[2 * k + 1] }));
    },
    box(seconds) {
      const [x, y, size, roll] = face.box(seconds);
      return { x, y, size, roll };
    },
    close: () => void (instance === wasmInstance() && face.free()),
  };
}
