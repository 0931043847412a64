// Replaces files.js of the package where the files are embedded: see index.js.
import { unpack, wasm } from '../dist/plain.js';
import { finder, weights, worker } from './embedded.js';

/** @type {string | null} */
let blobUrl = null;

/** @type {typeof import('../files.js').own} */
export const own = {
  wasm,
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
