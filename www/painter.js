// Paints what changes with each frame: the points over the picture, and what the net sees. It does so in a worker of its own where a
// canvas can be handed to one, and on the page's thread elsewhere. Without a GPU, drawing a few points costs that thread 1 ms, most of
// it for putting the page together anew; a worker's canvas goes to the screen without it, and without waiting for it.
import { CropView } from './crop.js';
import { context2d } from './dom.js';
import { drawFaces, extent } from './draw.js';

/** @typedef {import('./pkg/index.js').Face} Face */
/** @typedef {import('./draw.js').View} View */
/** @typedef {HTMLCanvasElement | OffscreenCanvas} Canvas */

/**
 * What is drawn over a picture.
 * @typedef {object} Drawing
 * @property {Face[]} faces
 * @property {[number, number][]} edges
 * @property {View} view
 * @property {Pick<import('./settings.js').Settings, 'points' | 'lines' | 'labels' | 'boxes' | 'colours'>} show
 */

/** Paints on the thread that makes it. */
export class Painter {
  #context;
  #crops;
  /** What has to be cleared. @type {ReturnType<typeof extent>} */
  #inked = null;

  /** @param {Canvas} overlay @param {Canvas[]} crops a canvas for each face */
  constructor(overlay, crops) {
    this.#context = context2d(overlay);
    this.#crops = crops.map((canvas) => new CropView(canvas));
  }

  /** Draws in place of what was drawn before. @param {Drawing | null} drawing null for nothing */
  draw(drawing) {
    const context = this.#context;
    const { canvas } = context;
    const size = drawing?.view.canvas ?? canvas;
    // Another size clears it all.
    if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, { width: size.width, height: size.height });
    else if (this.#inked) context.clearRect(this.#inked.x, this.#inked.y, this.#inked.width, this.#inked.height);
    this.#inked = drawing && extent(drawing.faces, drawing.view, drawing.show);
    if (drawing && this.#inked) drawFaces(context, drawing.faces, drawing.edges, drawing.view, drawing.show);
  }

  /**
   * Shows what the net sees of each face.
   * @param {VideoFrame | ImageBitmap | null} picture is closed; null for nothing
   * @param {Face['box'][]} boxes in its pixels
   */
  async crop(picture, boxes) {
    try {
      for (const [n, view] of this.#crops.entries()) {
        if (picture && boxes[n]) await view.show(picture, boxes[n]);
        else view.clear();
      }
    } finally {
      picture?.close();
    }
  }
}

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

  /** @param {VideoFrame | ImageBitmap | null} picture @param {Face['box'][]} boxes */
  async crop(picture, boxes) {
    this.#worker.postMessage(['crop', picture, boxes], picture ? [picture] : []);
  }
}

/**
 * @param {HTMLCanvasElement} overlay
 * @param {HTMLCanvasElement[]} crops
 * @returns {Promise<Pick<Painter, 'draw' | 'crop'>>}
 */
export async function startPainter(overlay, crops) {
  if (typeof overlay.transferControlToOffscreen !== 'function') return new Painter(overlay, crops);
  const worker = new Worker(new URL('painter-worker.js', import.meta.url), { type: 'module' });
  // A canvas cannot be taken back: the worker must have started.
  const up = await new Promise((resolve) => {
    worker.onmessage = () => resolve(true);
    worker.onerror = () => resolve(false);
  });
  if (!up) return new Painter(overlay, crops);
  const canvases = [overlay, ...crops].map((canvas) => canvas.transferControlToOffscreen());
  worker.postMessage(['start', ...canvases], canvases);
  return new Remote(worker);
}
