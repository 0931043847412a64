// Two ways to run the engine behind one interface: in a worker, or on the calling thread.
import { Face96Error, asFace96Error } from './errors.js';

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./engine.js').NetInfo} NetInfo */
/** @typedef {{ wasmUrl: string, weightsUrl: string, onProgress?: (p: import('./wasm.js').Progress) => void, signal?: AbortSignal }} LoadOptions */
/** @typedef {import('./engine.js').Face} Face */
/** @typedef {import('./engine.js').Timings} Timings */

/**
 * @typedef {object} Backend
 * @property {'worker' | 'main'} kind
 * @property {NetInfo} info
 * @property {boolean} dead whether a new backend is needed
 * @property {(bitmap: ImageBitmap, box: Box) => Promise<{ face: Face, timings: Timings }>} detect takes the bitmap over
 * @property {() => void} close ends it at once; a running detect() stays unanswered
 */

/**
 * @param {boolean} worker whether to try a worker first
 * @param {LoadOptions} options
 * @returns {Promise<Backend>}
 */
export async function startBackend(worker, options) {
  const link = worker ? await startWorker(options.signal) : null;
  return link ? loadInWorker(link, options) : loadHere(options);
}

/**
 * @param {LoadOptions} options
 * @returns {Promise<Backend>}
 */
async function loadHere(options) {
  const { Engine } = await import('./engine.js');
  const engine = await Engine.load(options);
  return {
    kind: 'main',
    info: engine.info,
    dead: false,
    async detect(bitmap, box) {
      try {
        return engine.detect(bitmap, box);
      } finally {
        bitmap.close();
      }
    },
    close: () => engine.free(),
  };
}

/**
 * Starts the worker script; null where that is impossible (no module workers, a policy against it, no canvas in it), so
 * that the caller falls back.
 * @param {AbortSignal} [signal]
 * @returns {Promise<Worker | null>}
 */
async function startWorker(signal) {
  /** @type {Worker} */
  let worker;
  try {
    // The whole expression stays in one piece: bundlers recognise it.
    worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'face96' });
  } catch {
    return null;
  }
  const capable = await new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data.type === 'up' && data.capable);
    worker.onerror = (event) => {
      event.preventDefault();
      resolve(false);
    };
    signal?.addEventListener('abort', () => resolve(false), { once: true });
  });
  if (!capable) worker.terminate();
  if (signal?.aborted) throw new Face96Error('aborted', 'Loading was aborted.');
  return capable ? worker : null;
}

/**
 * @param {Worker} worker
 * @param {LoadOptions} options
 * @returns {Promise<Backend>}
 */
async function loadInWorker(worker, { wasmUrl, weightsUrl, onProgress, signal }) {
  /** The one request under way. @type {{ resolve: (value: any) => void, reject: (error: Face96Error) => void } | null} */
  let request = null;
  /** @param {'resolve' | 'reject'} how @param {any} value */
  const settle = (how, value) => {
    const settled = request;
    request = null;
    settled?.[how](value);
  };
  /** @param {string} why */
  const crash = (why) => {
    backend.dead = true;
    worker.terminate();
    settle('reject', new Face96Error('worker-crashed', `The worker stopped: ${why}.`));
  };
  worker.onmessage = ({ data }) => {
    /** @type {import('./worker.js').Reply} */
    const reply = data;
    if (reply.type === 'progress') onProgress?.(reply.progress);
    else if (reply.type === 'error') settle('reject', new Face96Error(reply.code, reply.message));
    else if (reply.type === 'crash') crash(reply.message);
    else if (reply.type === 'loaded') settle('resolve', reply.info);
    else if (reply.type === 'result') settle('resolve', reply.result);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    crash(event.message || 'no reason given');
  };
  worker.onmessageerror = () => crash('a message could not be read');

  /**
   * @param {import('./worker.js').Request} message
   * @param {Transferable[]} transfer
   * @returns {Promise<any>}
   */
  const ask = (message, transfer = []) =>
    new Promise((resolve, reject) => {
      request = { resolve, reject };
      worker.postMessage(message, transfer);
    });

  /** @type {Backend} */
  const backend = {
    kind: 'worker',
    info: /** @type {any} */ (null),
    dead: false,
    detect: (bitmap, box) => ask({ type: 'detect', bitmap, box }, [bitmap]),
    close: () => worker.terminate(),
  };
  const abort = () => settle('reject', new Face96Error('aborted', 'Loading was aborted.'));
  signal?.addEventListener('abort', abort, { once: true });
  try {
    backend.info = await ask({ type: 'load', wasmUrl, weightsUrl });
    return backend;
  } catch (error) {
    worker.terminate();
    throw asFace96Error(error, 'internal');
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
