// Paints what changes with each frame: the points over the picture, and what the net sees. start-painter.js says on which thread.
import { context2d } from './dom.js';
import { drawFaces, extent } from './pkg/draw.js';

/** @typedef {import('./pkg/index.js').Face} Face */
/** @typedef {import('./pkg/draw.js').DrawOptions} DrawOptions */
/** @typedef {import('./pkg/draw.js').View} View */
/** @typedef {HTMLCanvasElement | OffscreenCanvas} Canvas */

/** What is drawn over a picture. @typedef {{ faces: Face[], options: DrawOptions & { view: View } }} Drawing */

/** Of the nets' input, in pixels. */
const SIDE = 96;

/** Paints on the thread that makes it. */
export class Painter {
  #context;
  /** @type {(CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D)[]} */
  #crops;
  /** What has to be cleared. @type {ReturnType<typeof extent>} */
  #inked = null;

  /** @param {Canvas} overlay @param {Canvas[]} crops a canvas for each face */
  constructor(overlay, crops) {
    this.#context = context2d(overlay);
    // A size that came with the first crop would move what lies below.
    for (const canvas of crops) Object.assign(canvas, { width: SIDE, height: SIDE });
    this.#crops = crops.map((canvas) => context2d(canvas));
  }

  /** Draws in place of what was drawn before. @param {Drawing | null} drawing null for nothing */
  draw(drawing) {
    const context = this.#context;
    const { canvas } = context;
    const size = drawing?.options.view.canvas ?? canvas;
    // Another size clears it all.
    if (canvas.width !== size.width || canvas.height !== size.height)
      Object.assign(canvas, { width: size.width, height: size.height });
    else if (this.#inked) context.clearRect(this.#inked.x, this.#inked.y, this.#inked.width, this.#inked.height);
    this.#inked = drawing && extent(drawing.faces, drawing.options);
    if (drawing && this.#inked) drawFaces(context, drawing.faces, drawing.options);
  }

  /**
   * Shows what the net looked at.
   * @param {Uint8Array[]} crops of each face; the canvases of the others become empty
   */
  crop(crops) {
    for (const [n, context] of this.#crops.entries()) {
      const { canvas } = context;
      // Nothing of a person stays.
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (!crops[n]) continue;
      const side = Math.sqrt(crops[n].length);
      if (canvas.width !== side) Object.assign(canvas, { width: side, height: side });
      const image = context.createImageData(side, side);
      const colours = new Uint32Array(image.data.buffer);
      crops[n].forEach((grey, i) => (colours[i] = 0xff000000 | (grey * 0x010101)));
      context.putImageData(image, 0, 0);
    }
  }
}
