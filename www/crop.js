// What the net sees of a face, for people: the square around it, upright, 96x96 pixels in grey.
import { context2d } from './dom.js';

/** @typedef {import('./pkg/index.js').Face['box']} Box */

/**
 * A part of a frame's plane of luma, `stride` bytes a row.
 * @typedef {{ bytes: Uint8Array, x: number, y: number, width: number, height: number, stride: number, fullRange: boolean }} Luma
 */

const SIDE = 96;
/** Formats of video frames whose first plane is luma, a byte a pixel. */
const WITH_LUMA = /^(I420|I422|I444|NV12)/;

/** One such square on the page. */
export class CropView {
  #context;
  #image = new ImageData(SIDE, SIDE);
  #bytes = new Uint8Array(0);
  #shown = false;

  /** @param {HTMLCanvasElement | OffscreenCanvas} canvas */
  constructor(canvas) {
    Object.assign(canvas, { width: SIDE, height: SIDE });
    this.#context = context2d(canvas);
  }

  clear() {
    if (!this.#shown) return;
    this.#shown = false;
    this.#context.reset();
    // Nothing of a person stays.
    this.#bytes = new Uint8Array(0);
    this.#image.data.fill(0);
  }

  /** @param {VideoFrame | ImageBitmap} picture @param {Box} box in its pixels */
  async show(picture, box) {
    this.#shown = true;
    const luma = 'format' in picture ? await this.#luma(picture, box).catch(() => null) : null;
    if (luma) this.#fill(luma, box);
    else this.#draw(picture, box);
  }

  /**
   * The luma of a video frame around a box: drawing a frame makes colours of all of it first, which takes 2 ms.
   * @param {VideoFrame} frame
   * @param {Box} box
   * @returns {Promise<Luma | null>} null for what has none
   */
  async #luma(frame, box) {
    const { format, visibleRect, displayWidth, displayHeight, colorSpace } = frame;
    const plain = visibleRect?.width === displayWidth && visibleRect.height === displayHeight;
    const { rotation, flip } = /** @type {{ rotation?: number, flip?: boolean }} */ (/** @type {unknown} */ (frame));
    if (!plain || rotation || flip || !WITH_LUMA.test(format ?? '')) return null;
    // Colours have half of the pixels or fewer, so that a part has to begin and end at even ones.
    const within = (/** @type {number} */ v, /** @type {number} */ side) => 2 * Math.round(Math.min(side, Math.max(0, v)) / 2);
    const reach = box.size * Math.SQRT1_2;
    const [x, y] = [within(box.x - reach, displayWidth), within(box.y - reach, displayHeight)];
    const width = Math.min(within(box.x + reach, displayWidth), displayWidth) - x;
    const height = Math.min(within(box.y + reach, displayHeight), displayHeight) - y;
    if (width <= 0 || height <= 0) return null;
    const rect = { x: x + visibleRect.x, y: y + visibleRect.y, width, height };
    const size = frame.allocationSize({ rect });
    if (this.#bytes.length < size) this.#bytes = new Uint8Array(size);
    const [{ offset, stride }] = await frame.copyTo(this.#bytes, { rect });
    return { bytes: this.#bytes.subarray(offset), x, y, width, height, stride, fullRange: colorSpace.fullRange === true };
  }

  /**
   * Each pixel is the mean of as many as it covers. What lies outside of the frame is black.
   * @param {Luma} luma
   * @param {Box} box
   */
  #fill({ bytes, x, y, width, height, stride, fullRange }, { x: middleX, y: middleY, size, roll }) {
    const { data } = this.#image;
    const times = Math.min(4, Math.max(1, Math.round(size / SIDE)));
    const step = size / (SIDE * times);
    const cos = Math.cos(roll) * step;
    const sin = Math.sin(roll) * step;
    const half = (SIDE * times - 1) / 2;
    const black = fullRange ? 0 : 16;
    const gain = (fullRange ? 1 : 255 / 219) / (times * times);
    for (let v = 0; v < SIDE; v++) {
      for (let u = 0; u < SIDE; u++) {
        let sum = 0;
        for (let b = v * times - half; b < (v + 1) * times - half; b++) {
          for (let a = u * times - half; a < (u + 1) * times - half; a++) {
            const px = Math.round(middleX + a * cos - b * sin) - x;
            const py = Math.round(middleY + a * sin + b * cos) - y;
            if (px >= 0 && py >= 0 && px < width && py < height) sum += bytes[py * stride + px] - black;
          }
        }
        const at = 4 * (v * SIDE + u);
        data[at] = data[at + 1] = data[at + 2] = gain * sum;
        data[at + 3] = 255;
      }
    }
    this.#context.putImageData(this.#image, 0, 0);
  }

  /** @param {CanvasImageSource} picture @param {Box} box */
  #draw(picture, { x, y, size, roll }) {
    const context = this.#context;
    context.reset();
    context.fillStyle = '#000';
    context.fillRect(0, 0, SIDE, SIDE);
    context.filter = 'grayscale(1)';
    context.imageSmoothingQuality = 'high';
    context.translate(SIDE / 2, SIDE / 2);
    context.scale(SIDE / size, SIDE / size);
    context.rotate(-roll);
    // Pixel (0, 0) has its centre at (0, 0), a canvas its corner.
    context.translate(-x - 0.5, -y - 0.5);
    context.drawImage(picture, 0, 0);
  }
}
