// Runs the engine off the page's thread. One request at a time comes in (the page sees to that), one answer goes out;
// a bitmap belongs to the worker from the moment it arrives and is closed here whatever happens.
import { Engine } from './engine.js';
import { asFace96Error } from './errors.js';

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./engine.js').NetInfo} NetInfo */
/**
 * @typedef {{ type: 'load', wasmUrl: string, weightsUrl: string } | { type: 'detect', bitmap: ImageBitmap, box: Box }} Request
 * @typedef {{ type: 'up', capable: boolean }
 *   | { type: 'progress', progress: import('./wasm.js').Progress }
 *   | { type: 'loaded', info: NetInfo }
 *   | { type: 'result', result: ReturnType<Engine['detect']> }
 *   | { type: 'error', code: import('./errors.js').ErrorCode, message: string }
 *   | { type: 'crash', message: string }} Reply
 */

/** @type {Engine | null} */
let engine = null;

/** @param {Reply} reply */
const post = (reply) => postMessage(reply);

/** @param {{ wasmUrl: string, weightsUrl: string }} request */
async function load({ wasmUrl, weightsUrl }) {
  engine = await Engine.load({ wasmUrl, weightsUrl, onProgress: (progress) => post({ type: 'progress', progress }) });
  post({ type: 'loaded', info: engine.info });
}

addEventListener('message', async ({ data }) => {
  try {
    if (data.type === 'load') await load(data);
    else if (engine) post({ type: 'result', result: engine.detect(data.bitmap, data.box) });
  } catch (error) {
    // A wasm trap leaves its memory in an unknown state: the page must start another worker.
    if (error instanceof WebAssembly.RuntimeError) post({ type: 'crash', message: error.message });
    else {
      const { code, message } = asFace96Error(error, 'internal');
      post({ type: 'error', code, message });
    }
  } finally {
    data.bitmap?.close();
  }
});

post({ type: 'up', capable: typeof OffscreenCanvas === 'function' });
