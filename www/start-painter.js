// Starts a painter in a worker of its own if a canvas can be transferred to one, otherwise on the page's thread. Without a GPU, drawing a
// few points costs that thread 1 ms, most of it for composing the page again; a worker's canvas goes to the screen without that thread, and
// without waiting for it.
import { Painter } from './painter.js';

/** @typedef {import('./painter.js').Drawing} Drawing */

/** A painter in a worker. Its calls are messages: `[method, ...arguments]`. @implements {Pick<Painter, 'draw' | 'crop'>} */
class Remote {
  #worker;

  /** @param {Worker} worker */
  constructor(worker) {
    this.#worker = worker;
  }

  /** @param {Drawing | null} drawing */
  draw(drawing) {
    this.#worker.postMessage(['draw', drawing]);
  }

  /** @param {Uint8Array[]} crops */
  crop(crops) {
    this.#worker.postMessage(['crop', crops]);
  }
}

/**
 * @param {HTMLCanvasElement} overlay
 * @param {HTMLCanvasElement[]} crops
 * @returns {Promise<Pick<Painter, 'draw' | 'crop'>>}
 */
export async function startPainter(overlay, crops) {
  const worker = typeof overlay.transferControlToOffscreen === 'function' ? await startWorker() : null;
  if (!worker) return new Painter(overlay, crops);
  const canvases = [overlay, ...crops].map((canvas) => canvas.transferControlToOffscreen());
  worker.postMessage(['start', ...canvases], canvases);
  return new Remote(worker);
}

/** @returns {Promise<Worker | null>} null if there can be none, as in a sandboxed frame */
async function startWorker() {
  /** @type {Worker} */
  let worker;
  try {
    worker = new Worker(new URL('painter-worker.js', import.meta.url), { type: 'module' });
  } catch {
    return null;
  }
  // A transferred canvas cannot be taken back, so the worker must have started.
  return new Promise((resolve) => {
    worker.onmessage = () => resolve(worker);
    worker.onerror = () => resolve(null);
  });
}
