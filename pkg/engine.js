// The nets and their crops: wasm, weights and canvas. The worker runs the engine; without a worker, the main thread
// does. Several streams of frames share one engine; each has its own tracks.
import { Detector, Tracker } from './dist/face96.js';
import { Cropper, LumaReader } from './crop.js';
import { Face96Error } from './errors.js';
import { sizeOf } from './source.js';
import { bytesOf, loadWasm } from './wasm.js';

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./files.js').Files} Files */
/** @typedef {import('./source.js').Frame} Frame */
/** @typedef {import('./wasm.js').Progress} Progress */

/**
 * What the weights file says about the net.
 * @typedef {object} NetInfo
 * @property {string} net name of the architecture
 * @property {string} version of the weights
 * @property {number} inputSize side of the net's square input, in pixels
 * @property {boolean} presence whether the net was trained to tell faces from other things
 * @property {{ keypoints: string[], swap: number[], edges: [number, number][] }} schema names of the keypoints (left and
 *   right are the subject's), index of each one's mirror partner, and pairs to join with a line
 */

/**
 * How a stream is tracked. A `minCutoff` of 0 turns smoothing off.
 * @typedef {{ maxFaces: number, minScore: number, minCutoff: number, beta: number, dCutoff: number }} Settings
 */

/**
 * The kind of a frame: one of a stream at a time, one with a known face, or a single picture.
 * @typedef {{ seconds: number } | { box: Box } | null} Kind
 */

/**
 * Milliseconds.
 * @typedef {object} Timings
 * @property {number} crop drawing boxes to the nets' input and reading them back
 * @property {number} find the finder, in frames where it ran
 * @property {number} net the keypoint net, with its preprocessing and the tracking
 */

/** A crop that the keypoint net saw, in grey. @typedef {{ box: Box, pixels: Uint8Array }} Crop */

/** The input of `facesOf`, and the time it took; `crops` is empty if they were not requested.
 * @typedef {{ flat: Float32Array, crops: Crop[], timings: Timings }} Result */

export class Engine {
  /** @type {Map<number, Tracker>} */ #streams = new Map();
  #detector;
  #cropper;
  #luma = new LumaReader();
  /** The previous frame. @type {Promise<unknown>} */ #turn = Promise.resolve();

  /**
   * @param {Uint8Array} weights
   * @param {Uint8Array | null} finder
   * @param {Files} files where the two come from, for messages
   */
  constructor(weights, finder, files) {
    this.#detector = usable(files.weights, () => {
      const detector = new Detector(weights);
      if (detector.info().net !== 'finder') return detector;
      detector.free();
      throw new Error('it finds boxes of faces, no keypoints');
    });
    if (finder) {
      try {
        usable(files.finder, () => this.#detector.addFinder(finder));
      } catch (error) {
        this.#detector.free();
        throw error;
      }
    }
    /** @type {NetInfo} */
    this.info = this.#detector.info();
    this.#cropper = new Cropper(this.info.inputSize);
  }

  /**
   * @param {Files} files
   * @param {(p: Progress) => void} [onProgress]
   * @param {AbortSignal} [signal]
   * @returns {Promise<Engine>}
   */
  static async load(files, onProgress, signal) {
    // All at once, because none depends on the others.
    const [, weights, finder] = await Promise.all([
      loadWasm(files.wasm, onProgress),
      bytesOf(files.weights, 'weights', onProgress, signal),
      files.finder === null ? null : bytesOf(files.finder, 'finder', onProgress, signal),
    ]);
    return new Engine(weights, finder, files);
  }

  /**
   * Opens a stream, or changes the settings of an open one.
   * @param {number} stream
   * @param {Settings} settings
   */
  configure(stream, { maxFaces, minScore, minCutoff, beta, dCutoff }) {
    const tracker = this.#streams.get(stream);
    if (tracker) tracker.configure(maxFaces, minScore, minCutoff, beta, dCutoff);
    else this.#streams.set(stream, new Tracker(this.#detector, maxFaces, minScore, minCutoff, beta, dCutoff));
  }

  /** Drops the tracks of a stream. @param {number} stream */
  reset(stream) {
    this.#streams.get(stream)?.reset();
  }

  /** Takes the current expressions of a stream's faces as their rest. @param {number} stream */
  recalibrate(stream) {
    this.#streams.get(stream)?.recalibrate();
  }

  /** @param {number} stream */
  shut(stream) {
    this.#streams.get(stream)?.free();
    this.#streams.delete(stream);
  }

  /**
   * Processes one frame after the other, whatever stream they belong to.
   * @param {number} stream
   * @param {Frame} frame
   * @param {Kind} kind
   * @param {boolean} crops whether to return the crops that the keypoint net saw
   * @returns {Promise<Result>}
   */
  detect(stream, frame, kind, crops) {
    const result = this.#turn.then(() => this.#detect(stream, frame, kind, crops));
    this.#turn = result.catch(() => {});
    return result;
  }

  /**
   * @param {number} stream
   * @param {Frame} frame
   * @param {Kind} kind
   * @param {boolean} crops
   * @returns {Promise<Result>}
   */
  async #detect(stream, frame, kind, crops) {
    const timings = { crop: 0, find: 0, net: 0 };
    const begun = performance.now();
    const luma = await this.#luma.take(frame);
    timings.crop = performance.now() - begun;
    const tracker = this.#streams.get(stream);
    if (!tracker) throw new Face96Error('closed', 'The stream was closed.');
    const { width, height } = sizeOf(frame);
    /** @type {Crop[]} */
    const looked = [];
    /** @type {Float32Array | undefined} */
    let wanted;
    let before = performance.now();
    if (kind === null) wanted = tracker.still(width, height);
    else if ('seconds' in kind) wanted = tracker.begin(width, height, kind.seconds);
    else wanted = tracker.boxed(kind.box.x, kind.box.y, kind.box.size, kind.box.roll);
    while (wanted) {
      const [x, y, size, roll, finder] = wanted;
      const box = { x, y, size, roll };
      if (luma) tracker.takeLuma(luma.bytes, width, height, luma.stride, luma.fullRange);
      else tracker.takeImage(this.#cropper.crop(/** @type {ImageBitmap | VideoFrame} */ (frame), box));
      if (crops && !finder) looked.push({ box, pixels: tracker.crop() });
      const cropped = performance.now();
      timings.crop += cropped - before;
      wanted = tracker.look(this.#detector);
      before = performance.now();
      timings[finder ? 'find' : 'net'] += before - cropped;
    }
    return { flat: tracker.faces(), crops: looked, timings };
  }

  /** Frees the wasm memory. */
  free() {
    for (const stream of [...this.#streams.keys()]) this.shut(stream);
    this.#detector.free();
  }
}

/**
 * @template T
 * @param {import('./files.js').Source | null} source
 * @param {() => T} make
 * @returns {T}
 */
function usable(source, make) {
  try {
    return make();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const name = typeof source === 'string' ? source : 'The weights';
    throw new Face96Error('weights-invalid', `${name} cannot be used: ${why}`, { cause: error });
  }
}
