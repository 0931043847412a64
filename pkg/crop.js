// From a frame and a box to the small upright square that the net sees. Follows the convention of the whole
// project: pixel (0, 0) has its CENTRE at (0, 0). A canvas puts the corner there, so canvas = pixel + 0.5 throughout.
import { Face96Error } from './errors.js';

/**
 * A rotated square of a frame.
 * @typedef {object} Box
 * @property {number} x centre, in frame pixels
 * @property {number} y centre, in frame pixels
 * @property {number} size side, in frame pixels
 * @property {number} roll radians; positive turns the square clockwise as seen in the frame
 */

/** The guide's share of the frame's short side, as GUIDE_SHARE in src/geometry.rs: leaves room to move, and the face is still above 96 px on any webcam. */
const GUIDE_SHARE = 0.6;

/**
 * The square in which a face is expected if its place is unknown: in the middle of the frame, upright.
 * @param {number} width of the frame, in pixels
 * @param {number} height of the frame, in pixels
 * @returns {Box}
 */
export function guideBox(width, height) {
  return { x: (width - 1) / 2, y: (height - 1) / 2, size: GUIDE_SHARE * Math.min(width, height), roll: 0 };
}

/**
 * The affine map from crop to frame, both in canvas coordinates, as the (a, b, c, d, e, f) of a 2D context.
 * @param {Box} box
 * @param {number} side of the crop, in pixels
 * @returns {[number, number, number, number, number, number]}
 */
function cropToFrame(box, side) {
  const scale = box.size / side;
  const cos = Math.cos(box.roll) * scale;
  const sin = Math.sin(box.roll) * scale;
  const half = side / 2;
  return [cos, sin, -sin, cos, box.x + 0.5 - (cos - sin) * half, box.y + 0.5 - (sin + cos) * half];
}

/**
 * @param {readonly [number, number, number, number, number, number]} m
 * @returns {[number, number, number, number, number, number]}
 */
function invert([a, b, c, d, e, f]) {
  const det = a * d - b * c;
  return [d / det, -b / det, -c / det, a / det, (c * f - d * e) / det, (b * e - a * f) / det];
}

/** The message when a picture of another origin is refused. */
export const OTHER_ORIGIN =
  'The picture is from another origin, which the browser lets no page read; load it with the attribute crossorigin from a server that allows it.';

/** Draws boxes of frames to a square of `side` pixels. Its canvases are made once and reused for every frame. */
export class Cropper {
  /** @param {number} side of the crop, in pixels */
  constructor(side) {
    this.side = side;
    /** Canvases of 1, 2, 4, ... times `side`; made when a box first needs them.
     * @type {(OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D)[]} */
    this.levels = [];
    /** Whether a canvas has given back what was drawn on it. */
    this.trusted = false;
  }

  /**
   * The box of a frame as RGBA bytes, `side * side * 4` of them. Anything outside the frame is black.
   *
   * A draw samples only a few source pixels per target pixel, so shrinking by more than two would skip some
   * (aliasing). A big box is therefore drawn to a canvas of 2, 4, 8... times the side, where it shrinks by less than
   * two, and then halved: halving averages 2x2 pixels exactly.
   * @param {CanvasImageSource} source
   * @param {Box} box
   * @returns {ImageData}
   * @throws {Face96Error} `bad-frame`, `canvas-blocked`
   */
  crop(source, box) {
    if (!this.trusted) checkCanvas(this.#level(0));
    this.trusted = true;
    try {
      return this.#crop(source, box);
    } catch (error) {
      // A picture of another origin permanently taints every canvas that it is drawn on.
      this.levels = [];
      const { name, message } = /** @type {Error} */ (error);
      throw new Face96Error(
        'bad-frame',
        name === 'SecurityError' ? OTHER_ORIGIN : `The frame cannot be read: ${message}`,
        { cause: error },
      );
    }
  }

  /** @param {CanvasImageSource} source @param {Box} box */
  #crop(source, box) {
    // 16 times the side is more than any camera gives; beyond that, memory matters more than the last bit of aliasing.
    const top = Math.min(4, Math.max(0, Math.floor(Math.log2(box.size / this.side))));
    let level = this.#level(top);
    const big = this.side << top;
    level.setTransform(1, 0, 0, 1, 0, 0);
    level.clearRect(0, 0, big, big);
    level.setTransform(...invert(cropToFrame(box, big)));
    level.drawImage(source, 0, 0);
    for (let n = top - 1; n >= 0; n--) {
      const smaller = this.#level(n);
      smaller.setTransform(1, 0, 0, 1, 0, 0);
      smaller.drawImage(level.canvas, 0, 0, this.side << n, this.side << n);
      level = smaller;
    }
    return level.getImageData(0, 0, this.side, this.side);
  }

  /** @param {number} n */
  #level(n) {
    this.levels[n] ??= makeContext(this.side << n);
    return this.levels[n];
  }
}

/** Two colours that a canvas of a single colour cannot give back, and one of noise hardly ever. */
const COLOURS = [
  [200, 40, 90],
  [10, 220, 160],
];
/** Grey levels by which colour management and weak noise may change the colours. */
const TOLERANCE = 8;

/**
 * Browsers that guard against fingerprinting return white or noise instead of what was drawn, and then no face would be found, silently.
 * @param {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D} context
 * @throws {Face96Error} `canvas-blocked`
 */
function checkCanvas(context) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  COLOURS.forEach((colour, x) => {
    context.fillStyle = `rgb(${colour.join(' ')})`;
    context.fillRect(x, 0, 1, 1);
  });
  const { data } = context.getImageData(0, 0, COLOURS.length, 1);
  const same = COLOURS.every((colour, x) => colour.every((value, c) => Math.abs(data[4 * x + c] - value) <= TOLERANCE));
  if (same) return;
  throw new Face96Error(
    'canvas-blocked',
    'The browser gives back other pixels than were drawn, as a guard against fingerprinting; allow this page to read canvas data and try again.',
  );
}

/**
 * @param {number} side in pixels
 * @returns {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D}
 */
function makeContext(side) {
  /** @type {OffscreenCanvas | HTMLCanvasElement} */
  let canvas;
  if (typeof OffscreenCanvas === 'function') {
    canvas = new OffscreenCanvas(side, side);
  } else {
    canvas = document.createElement('canvas');
    canvas.width = canvas.height = side;
  }
  // willReadFrequently keeps the pixels in memory: the net runs on the CPU, and reading back from a GPU would wait for it.
  // Without alpha, a cleared canvas is black, as the net expects outside the frame.
  const context = /** @type {OffscreenCanvasRenderingContext2D | null} */ (
    canvas.getContext('2d', { willReadFrequently: true, alpha: false })
  );
  if (!context) throw new Error('this browser gave no 2D canvas');
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = 'high';
  return context;
}

/** Formats whose first plane is luma, one byte per pixel. */
const WITH_LUMA = ['I420', 'I420A', 'I422', 'I444', 'NV12'];

/**
 * Reads the luma plane of a video frame. The nets see only grey: converting a 640x480 frame to colours first, as drawing it does,
 * takes longer than everything else around the net. The buffer is made once.
 */
export class LumaReader {
  #bytes = new Uint8Array(0);

  /**
   * @param {import('./source.js').Frame} frame
   * @returns {Promise<{ bytes: Uint8Array, stride: number, fullRange: boolean } | null>} valid until the next call; null for
   *   a frame that has no luma plane or must be rotated or stretched for display
   */
  async take(frame) {
    if ('luma' in frame) return { bytes: frame.luma, stride: frame.width, fullRange: true };
    if (!('format' in frame) || !WITH_LUMA.includes(frame.format ?? '')) return null;
    const { visibleRect, displayWidth, displayHeight } = frame;
    if (!visibleRect || visibleRect.width !== displayWidth || visibleRect.height !== displayHeight) return null;
    const { rotation, flip } = /** @type {{ rotation?: number, flip?: boolean }} */ (/** @type {unknown} */ (frame));
    if (rotation || flip) return null;
    try {
      const size = frame.allocationSize();
      if (this.#bytes.length < size) this.#bytes = new Uint8Array(size);
      const [{ offset, stride }] = await frame.copyTo(this.#bytes);
      const end = offset + stride * (displayHeight - 1) + displayWidth;
      return { bytes: this.#bytes.subarray(offset, end), stride, fullRange: frame.colorSpace.fullRange === true };
    } catch {
      // A frame that cannot be copied can still be drawn.
      return null;
    }
  }
}
