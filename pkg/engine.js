// The nets, and the crops they look at: wasm + weights + canvas. The worker runs it, and so does the main thread where there
// is no worker. Several streams of frames share one engine; each has its own tracks.
import { Detector, Tracker } from './dist/face96.js';
import { Cropper } from './crop.js';
import { Face96Error } from './errors.js';
import { fetchBytes, loadWasm } from './wasm.js';

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./wasm.js').Progress} Progress */

/**
 * What the weights file says of itself.
 * @typedef {object} NetInfo
 * @property {string} net name of the architecture
 * @property {string} version of the weights
 * @property {number} inputSize side of the net's square input, in pixels
 * @property {boolean} presence whether the net was trained to tell a face from none
 * @property {{ keypoints: string[], swap: number[], edges: [number, number][] }} schema names of the keypoints (left and
 *   right are the subject's), index of each one's mirror partner, and pairs to join with a line
 */

/**
 * Absolute addresses; no finder where `finderUrl` is null.
 * @typedef {{ wasmUrl: string, weightsUrl: string, finderUrl: string | null }} Files
 */

/**
 * How a stream is followed. A `minCutoff` of 0 turns smoothing off.
 * @typedef {{ maxFaces: number, minScore: number, minCutoff: number, beta: number, dCutoff: number }} Settings
 */

/**
 * What a frame is: one of a stream at a time, one whose face is known, or a picture by itself.
 * @typedef {{ seconds: number } | { box: Box } | null} Kind
 */

/**
 * Milliseconds.
 * @typedef {object} Timings
 * @property {number} crop drawing boxes to the nets' input and reading them back
 * @property {number} find the finder, in frames where it ran
 * @property {number} net the keypoint net, with its preprocessing and the tracking
 */

/** `flat` is what `facesOf` reads. @typedef {{ flat: Float32Array, timings: Timings }} Result */

export class Engine {
  /** @type {Map<number, Tracker>} */ #streams = new Map();
  #detector;
  #cropper;

  /**
   * @param {Uint8Array} weights
   * @param {Uint8Array | null} finder
   * @param {Files} files where the two come from, for messages
   */
  constructor(weights, finder, { weightsUrl, finderUrl }) {
    this.#detector = usable(weightsUrl, () => new Detector(weights));
    if (finder) {
      try {
        usable(finderUrl, () => this.#detector.addFinder(finder));
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
    const { wasmUrl, weightsUrl, finderUrl } = files;
    // All at once: none needs the others to arrive.
    const [, weights, finder] = await Promise.all([
      loadWasm(wasmUrl, onProgress),
      fetchBytes(weightsUrl, 'weights', onProgress, signal),
      finderUrl === null ? null : fetchBytes(finderUrl, 'finder', onProgress, signal),
    ]);
    return new Engine(weights, finder, files);
  }

  /**
   * Opens a stream, or changes the settings of one that is open.
   * @param {number} stream
   * @param {Settings} settings
   */
  configure(stream, { maxFaces, minScore, minCutoff, beta, dCutoff }) {
    const tracker = this.#streams.get(stream);
    if (tracker) tracker.configure(maxFaces, minScore, minCutoff, beta, dCutoff);
    else this.#streams.set(stream, new Tracker(this.#detector, maxFaces, minScore, minCutoff, beta, dCutoff));
  }

  /** Forgets the tracks of a stream. @param {number} stream */
  reset(stream) {
    this.#streams.get(stream)?.reset();
  }

  /** @param {number} stream */
  shut(stream) {
    this.#streams.get(stream)?.free();
    this.#streams.delete(stream);
  }

  /**
   * @param {number} stream
   * @param {CanvasImageSource} source
   * @param {number} width of the source, in pixels
   * @param {number} height
   * @param {Kind} kind
   * @returns {Result}
   */
  detect(stream, source, width, height, kind) {
    const tracker = this.#streams.get(stream);
    if (!tracker) throw new Face96Error('internal', `There is no stream ${stream}.`);
    const timings = { crop: 0, find: 0, net: 0 };
    /** @type {Float32Array | undefined} */
    let wanted;
    if (kind === null) wanted = tracker.still(width, height);
    else if ('seconds' in kind) wanted = tracker.begin(width, height, kind.seconds);
    else wanted = tracker.boxed(kind.box.x, kind.box.y, kind.box.size, kind.box.roll);
    let before = performance.now();
    while (wanted) {
      const finder = wanted[4] === 1;
      const rgba = this.#cropper.crop(source, { x: wanted[0], y: wanted[1], size: wanted[2], roll: wanted[3] });
      const cropped = performance.now();
      timings.crop += cropped - before;
      wanted = tracker.give(this.#detector, rgba);
      before = performance.now();
      timings[finder ? 'find' : 'net'] += before - cropped;
    }
    return { flat: tracker.faces(), timings };
  }

  /** Gives the wasm memory back. */
  free() {
    for (const stream of [...this.#streams.keys()]) this.shut(stream);
    this.#detector.free();
  }
}

/**
 * @template T
 * @param {string | null} url
 * @param {() => T} make
 * @returns {T}
 */
function usable(url, make) {
  try {
    return make();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Face96Error('weights-invalid', `${url} cannot be used: ${why}`, { cause: error });
  }
}
