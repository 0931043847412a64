// The nets, and the crops they look at: wasm + weights + canvas. The worker runs it, and so does the main thread where there
// is no worker. Several streams of frames share one engine; each has its own tracks.
import { Detector, Tracker } from './dist/face96.js';
import { Cropper, LumaReader } from './crop.js';
import { Face96Error } from './errors.js';
import { HEADER } from './faces.js';
import { sizeOf } from './source.js';
import { bytesOf, loadWasm } from './wasm.js';

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./files.js').Files} Files */
/** @typedef {import('./source.js').Frame} Frame */
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

/** What the keypoint net looked at, in grey. @typedef {{ box: Box, pixels: Uint8Array }} Crop */

/** What `facesOf` reads, and how long it took; `crops` is empty where they were not asked for.
 * @typedef {{ flat: Float32Array, crops: Crop[], timings: Timings }} Result */

export class Engine {
  /** @type {Map<number, Tracker>} */ #streams = new Map();
  /** How many faces each stream asks for. @type {Map<number, number>} */ #most = new Map();
  #detector;
  #cropper;
  #luma = new LumaReader();
  /** The frame before. @type {Promise<unknown>} */ #turn = Promise.resolve();

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
    // All at once: none needs the others to arrive.
    const [, weights, finder] = await Promise.all([
      loadWasm(files.wasm, onProgress),
      bytesOf(files.weights, 'weights', onProgress, signal),
      files.finder === null ? null : bytesOf(files.finder, 'finder', onProgress, signal),
    ]);
    return new Engine(weights, finder, files);
  }

  /**
   * Opens a stream, or changes the settings of one that is open.
   * @param {number} stream
   * @param {Settings} settings
   */
  configure(stream, { maxFaces, minScore, minCutoff, beta, dCutoff }) {
    this.#most.set(stream, maxFaces);
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
    this.#most.delete(stream);
  }

  /**
   * Frames are taken one after the other, whatever stream they belong to.
   * @param {number} stream
   * @param {Frame} frame
   * @param {Kind} kind
   * @param {boolean} crops whether to hand out what the keypoint net looks at
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
    const look = { tracker, frame, luma, kind, crops, timings };
    const { width, height } = sizeOf(frame);
    const [first, ...others] = kind === null ? tiles(width, height) : [{ x: 0, y: 0, width, height }];
    const { flat, looked } = this.#look(look, first);
    if (!others.length) return { flat, crops: looked, timings };
    /** @type {number[][]} */
    const faces = [];
    const length = HEADER + 3 * this.info.schema.keypoints.length;
    const rows = [...flat];
    for (const tile of others) {
      const more = this.#look(look, tile);
      rows.push(...more.flat);
      looked.push(...more.looked);
    }
    for (let at = 0; at < rows.length; at += length) faces.push(rows.slice(at, at + length));
    return { flat: Float32Array.from(best(faces).slice(0, this.#most.get(stream)).flat()), crops: looked, timings };
  }

  /**
   * Looks at a part of a frame, which is all of it but for long strips. What comes back is in pixels of the frame.
   * @param {{ tracker: Tracker, frame: Frame, luma: Awaited<ReturnType<LumaReader['take']>>, kind: Kind, crops: boolean, timings: Timings }} look
   * @param {Tile} tile
   * @returns {{ flat: Float32Array, looked: Crop[] }}
   */
  #look({ tracker, frame, luma, kind, crops, timings }, { x: left, y: top, width, height }) {
    /** @type {Crop[]} */
    const looked = [];
    /** @type {Float32Array | undefined} */
    let wanted;
    let before = performance.now();
    if (kind === null) wanted = tracker.still(width, height);
    else if ('seconds' in kind) wanted = tracker.begin(width, height, kind.seconds);
    else wanted = tracker.boxed(kind.box.x, kind.box.y, kind.box.size, kind.box.roll);
    const rows = luma?.bytes.subarray(top * luma.stride + left);
    while (wanted) {
      const [x, y, size, roll, finder] = wanted;
      const box = { x: x + left, y: y + top, size, roll };
      if (luma && rows) tracker.takeLuma(rows, width, height, luma.stride, luma.fullRange);
      else tracker.takeImage(this.#cropper.crop(/** @type {ImageBitmap | VideoFrame} */ (frame), box));
      if (crops && !finder) looked.push({ box, pixels: tracker.crop() });
      const cropped = performance.now();
      timings.crop += cropped - before;
      wanted = tracker.look(this.#detector);
      before = performance.now();
      timings[finder ? 'find' : 'net'] += before - cropped;
    }
    return { flat: moved(tracker.faces(), this.info.schema.keypoints.length, left, top), looked };
  }

  /** Gives the wasm memory back. */
  free() {
    for (const stream of [...this.#streams.keys()]) this.shut(stream);
    this.#detector.free();
  }
}

/** A part of a frame, in whole pixels. @typedef {{ x: number, y: number, width: number, height: number }} Tile */

/** A still picture longer than this, in short sides, is looked at in parts: the finder's squares cover no more than five. */
const LONGEST = 4;

/**
 * The parts of a still picture to look at. Neighbours share a short side, so that a face at a seam is whole in one of them.
 * @param {number} width
 * @param {number} height
 * @returns {Tile[]}
 */
export function tiles(width, height) {
  const [long, short] = [Math.max(width, height), Math.min(width, height)];
  if (long <= LONGEST * short) return [{ x: 0, y: 0, width, height }];
  const count = Math.ceil((long - short) / ((LONGEST - 1) * short));
  return Array.from({ length: count }, (_, i) => {
    const from = Math.round((i * (long - short)) / count);
    const to = Math.round(((i + 1) * (long - short)) / count) + short;
    return width > height ? { x: from, y: 0, width: to - from, height } : { x: 0, y: from, width, height: to - from };
  });
}

/** @param {Float32Array} flat @param {number} count of keypoints @param {number} dx @param {number} dy @returns {Float32Array} */
function moved(flat, count, dx, dy) {
  if (!dx && !dy) return flat;
  const length = HEADER + 3 * count;
  for (let at = 0; at < flat.length; at += length) {
    const places = [at + 2, ...Array.from({ length: count }, (_, k) => at + HEADER + 3 * k)];
    for (const x of places) [flat[x], flat[x + 1]] = [flat[x] + dx, flat[x + 1] + dy];
  }
  return flat;
}

/** The faces of several parts, the most certain first; of one that two parts show, that. @param {number[][]} faces @returns {number[][]} */
function best(faces) {
  /** @type {number[][]} */
  const kept = [];
  for (const face of faces.sort((a, b) => b[1] - a[1])) {
    const twice = (/** @type {number[]} */ [, , x, y, size]) => Math.hypot(x - face[2], y - face[3]) < size / 2;
    if (!kept.some(twice)) kept.push(face);
  }
  return kept;
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
