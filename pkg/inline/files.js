// Replaces files.js of the package where the files are embedded: see index.js.
import { finder, wasm, weights, worker } from './embedded.js';

/** @param {string} packed base64 of deflated bytes @returns {() => Promise<Uint8Array>} the bytes, the same array at each call */
function unpack(packed) {
  /** @type {Promise<Uint8Array> | null} */
  let bytes = null;
  return () =>
    (bytes ??= (async () => {
      const deflated = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
      const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
      return new Uint8Array(await new Response(stream).arrayBuffer());
    })());
}

/** @type {string | null} */
let blobUrl = null;

/** @type {typeof import('../files.js').own} */
export const own = {
  wasm: unpack(wasm),
  weights: unpack(weights),
  finder: unpack(finder),
  // A policy may allow only one of the two.
  workers: [
    () =>
      new Worker((blobUrl ??= URL.createObjectURL(new Blob([worker], { type: 'text/javascript' }))), {
        type: 'module',
        name: 'face96',
      }),
    () => new Worker(`data:text/javascript,${encodeURIComponent(worker)}`, { type: 'module', name: 'face96' }),
  ],
};
