// Runs the engine off the page's thread. Requests are answered in order; a frame belongs to the worker from the moment
// it arrives and is closed here in any case.
import { Engine } from './engine.js';
import { asFace96Error } from './errors.js';
import { release } from './source.js';

/**
 * @typedef {{ type: 'load', id: number, files: import('./files.js').Files }
 *   | { type: 'configure', stream: number, settings: import('./engine.js').Settings }
 *   | { type: 'reset' | 'recalibrate' | 'shut', stream: number }
 *   | { type: 'detect', id: number, stream: number, frame: import('./source.js').Frame,
 *       kind: import('./engine.js').Kind, crops: boolean }} Request
 * @typedef {{ type: 'up', capable: boolean }
 *   | { type: 'progress', progress: import('./wasm.js').Progress }
 *   | { type: 'done', id: number, result: any }
 *   | { type: 'error', id: number, code: import('./errors.js').ErrorCode, message: string }
 *   | { type: 'crash', message: string }} Reply
 */

/** @type {Engine} */
let engine;

/** @param {Reply} reply @param {Transferable[]} [transfer] */
const post = (reply, transfer = []) => postMessage(reply, { transfer });

/** @param {Request} request */
async function answer(request) {
  switch (request.type) {
    case 'load':
      engine = await Engine.load(request.files, (progress) => post({ type: 'progress', progress }));
      return post({ type: 'done', id: request.id, result: engine.info });
    case 'configure':
      return engine.configure(request.stream, request.settings);
    case 'reset':
      return engine.reset(request.stream);
    case 'recalibrate':
      return engine.recalibrate(request.stream);
    case 'shut':
      return engine.shut(request.stream);
    case 'detect': {
      const { id, stream, frame, kind, crops } = request;
      const result = await engine.detect(stream, frame, kind, crops);
      return post(
        { type: 'done', id, result },
        [result.flat, ...result.crops.map(({ pixels }) => pixels)].map(({ buffer }) => buffer),
      );
    }
  }
}

addEventListener('message', async ({ data }) => {
  /** @type {Request} */
  const request = data;
  try {
    await answer(request);
  } catch (error) {
    // A wasm trap leaves the memory in an unknown state, so the page must start another worker.
    if (error instanceof WebAssembly.RuntimeError || !('id' in request)) {
      post({ type: 'crash', message: error instanceof Error ? error.message : String(error) });
    } else {
      const { code, message } = asFace96Error(error, 'internal');
      post({ type: 'error', id: request.id, code, message });
    }
  } finally {
    if (request.type === 'detect') release(request.frame);
  }
});

post({ type: 'up', capable: typeof OffscreenCanvas === 'function' });
