// Paints everything that changes with each frame: the points over the picture, and the crops. start-painter.js decides on which thread.
import { context2d } from './dom.js';
import { drawFaces, extent } from './pkg/draw.js';

/** @typedef {import('./pkg/index.js').Face} Face */
/** @typedef {import('./pkg/draw.js').DrawOptions} DrawOptions */
/** @typedef {import('./pkg/draw.js').View} View */
/** @typedef {HTMLCanvasElement | OffscreenCanvas} Canvas */

/** The drawing over a picture. @typedef {{ faces: Face[], options: DrawOptions & { view: View } }} Drawing */

/** Side of the nets' input, in pixels. */
const SIDE = 96;

/** Paints on the thread that creates it. */
export class Painter {
  #context;
  /** @type {(CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D)[]} */
  #crops;
  /** The area to clear. @type {ReturnType<typeof extent>} */
  #inked = null;

  /** @param {Canvas} overlay @param {Canvas[]} crops a canvas for each face */
  constructor(overlay, crops) {
    this.#context = context2d(overlay);
    // If the first crop set the size, everything below it would move.
    for (const canvas of crops) Object.assign(canvas, { width: SIDE, height: SIDE });
    this.#crops = crops.map((canvas) => context2d(canvas));
  }

  /** Replaces the previous drawing. @param {Drawing | null} drawing null for nothing */
  draw(drawing) {
    const context = this.#context;
    const { canvas } = context;
    const size = drawing?.options.view.canvas ?? canvas;
    // A change of size clears the whole canvas.
    if (canvas.width !== size.width || canvas.height !== size.height)
      Object.assign(canvas, { width: size.width, height: size.height });
    else if (this.#inked) context.clearRect(this.#inked.x, this.#inked.y, this.#inked.width, this.#inked.height);
    this.#inked = drawing && extent(drawing.faces, drawing.options);
    if (drawing && this.#inked) drawFaces(context, drawing.faces, drawing.options);
  }

  /**
   * Shows the crops that the net saw.
   * @param {Uint8Array[]} crops one per face; the remaining canvases become empty
   */
  crop(crops) {
    for (const [n, context] of this.#crops.entries()) {
      const { canvas } = context;
      // No picture of a person stays behind.
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
