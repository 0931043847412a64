// face96: facial keypoints in the browser. Importing this file does nothing and is safe without a DOM.
//
//   const detector = await createDetector();
//   const { faces } = await detector.detect(video);
//   for (const { x, y, name } of faces[0]?.keypoints ?? []) draw(x, y, name);
//   detector.close();
import { startBackend } from './backend.js';
import { frameSize, guideBox } from './crop.js';
import { Face96Error, asFace96Error } from './errors.js';
import { defaultWasmUrl } from './simd.js';

export { Face96Error } from './errors.js';
export { guideBox } from './crop.js';

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./crop.js').FrameSource} FrameSource */
/** @typedef {import('./engine.js').Face} Face */
/** @typedef {import('./engine.js').Keypoint} Keypoint */
/** @typedef {import('./engine.js').NetInfo} NetInfo */
/** @typedef {import('./wasm.js').Progress} Progress */
/** @typedef {import('./errors.js').ErrorCode} ErrorCode */

/**
 * @typedef {object} DetectorOptions
 * @property {string | URL} [weightsUrl] a weights file; the default lies in this package
 * @property {string | URL} [wasmUrl] the wasm; the default is the one of the two in this package that suits the browser
 * @property {1} [maxFaces] this version finds one face
 * @property {false} [smoothing] this version does not smooth
 * @property {number} [minScore] 0..1; below this presence score `faces` is empty. Default 0.5; without effect where the
 *   weights were not trained to tell a face from none (`info.presence`)
 * @property {boolean} [worker] false runs everything on the calling thread. Default true, with that as the fallback
 * @property {AbortSignal} [signal] aborting it stops the loading, and later closes the detector
 * @property {(progress: Progress) => void} [onProgress] called while files arrive
 */

/**
 * `capture`: taking the frame; `crop`: box to net input; `net`: the net; `total`: from the call to its result, waiting
 * included. All in milliseconds.
 * @typedef {{ capture: number, crop: number, net: number, total: number }} DetectTimings
 * @typedef {{ faces: Face[], timings: DetectTimings }} Detection
 */

/**
 * Loads wasm and weights and starts the worker.
 * @param {DetectorOptions} [options]
 * @returns {Promise<FaceDetector>}
 * @throws {Face96Error} `bad-option`, `wasm-fetch`, `wasm-compile`, `weights-fetch`, `weights-invalid`, `aborted`
 */
export async function createDetector(options = {}) {
  const { maxFaces = 1, smoothing = false, minScore = 0.5, worker = true, signal, onProgress } = options;
  if (maxFaces !== 1) throw new Face96Error('bad-option', `maxFaces is ${maxFaces}; this version finds 1 face.`);
  if (smoothing !== false) throw new Face96Error('bad-option', 'smoothing must be false; this version does not smooth.');
  if (!(minScore >= 0 && minScore <= 1)) throw new Face96Error('bad-option', `minScore is ${minScore}; expected 0 to 1.`);
  if (signal?.aborted) throw new Face96Error('aborted', 'Loading was aborted.');
  // Addresses are made absolute here: a relative one means the page's folder, which a worker does not know.
  const base = globalThis.document?.baseURI ?? import.meta.url;
  const wasmUrl = options.wasmUrl ? new URL(options.wasmUrl, base) : defaultWasmUrl();
  const weightsUrl = options.weightsUrl
    ? new URL(options.weightsUrl, base)
    : new URL('./weights/compact.safetensors', import.meta.url);
  const start = () => startBackend(worker, { wasmUrl: wasmUrl.href, weightsUrl: weightsUrl.href, onProgress, signal });
  const backend = await start();
  if (signal?.aborted) {
    backend.close();
    throw new Face96Error('aborted', 'Loading was aborted.');
  }
  const detector = new FaceDetector(backend, start, minScore);
  signal?.addEventListener('abort', () => detector._end(new Face96Error('aborted', 'The detector was aborted.')), { once: true });
  return detector;
}

/**
 * A call of detect() on its way.
 * @typedef {object} Job
 * @property {Promise<ImageBitmap>} bitmap
 * @property {Box} box
 * @property {number} start
 * @property {number} capture
 * @property {boolean} settled
 * @property {(result: Detection) => void} resolve
 * @property {(error: Face96Error) => void} reject
 */

/** Made by {@link createDetector}. */
export class FaceDetector {
  /** @type {import('./backend.js').Backend} */ #backend;
  #restart;
  #restarts = 0;
  #minScore;
  /** @type {Job | null} */ #running = null;
  /** @type {Job | null} */ #waiting = null;
  /** Why it no longer works. @type {Face96Error | null} */ #ended = null;

  /**
   * @param {import('./backend.js').Backend} backend
   * @param {() => Promise<import('./backend.js').Backend>} restart
   * @param {number} minScore
   */
  constructor(backend, restart, minScore) {
    this.#backend = backend;
    this.#restart = restart;
    this.#minScore = minScore;
  }

  /** What the weights say of themselves: schema, input size, net. @returns {NetInfo} */
  get info() {
    return this.#backend.info;
  }

  /** Where the net runs. @returns {'worker' | 'main'} */
  get runsIn() {
    return this.#backend.kind;
  }

  /**
   * Finds the keypoints of the face in `box` (default: `guideBox` of the frame). The frame is taken at the call; the
   * source stays the caller's and may change or be closed afterwards.
   *
   * The newest frame wins: while one frame is computed, one more waits, and a third takes the waiting one's place, whose
   * promise rejects with `superseded`. A loop that awaits each result never meets it.
   * @param {FrameSource} source
   * @param {{ box?: Box }} [options]
   * @returns {Promise<Detection>} box and keypoints in frame pixels, the centre of the first pixel being (0, 0)
   * @throws {Face96Error} `empty-frame`, `bad-frame`, `bad-option`, `superseded`, `aborted`, `closed`, `worker-crashed`
   */
  async detect(source, { box } = {}) {
    if (this.#ended) throw this.#ended;
    const { width, height } = frameSize(source);
    if (!width || !height) throw new Face96Error('empty-frame', `The frame is ${width}x${height} pixels: there is no picture yet.`);
    const place = box ? { x: box.x, y: box.y, size: box.size, roll: box.roll ?? 0 } : guideBox(width, height);
    if (!Object.values(place).every(Number.isFinite) || place.size <= 0) {
      throw new Face96Error('bad-option', `box is ${JSON.stringify(box)}; expected finite x, y, roll and a size above 0.`);
    }
    return new Promise((resolve, reject) => {
      const start = performance.now();
      /** @type {Job} */
      const job = { bitmap: createImageBitmap(source), box: place, start, capture: 0, settled: false, resolve, reject };
      job.bitmap.then(
        () => (job.capture = performance.now() - start),
        () => {}, // #run reports it when the job's turn comes
      );
      if (this.#waiting) drop(this.#waiting, new Face96Error('superseded', 'A newer frame took the place of this one.'));
      this.#waiting = job;
      this.#pump();
    });
  }

  /** Drops the frame that waits; its promise rejects with `superseded`. Nothing else is kept from frame to frame. */
  reset() {
    if (this.#waiting) drop(this.#waiting, new Face96Error('superseded', 'The detector was reset.'));
    this.#waiting = null;
  }

  /** Ends the worker and frees its memory. Calls under way reject with `closed`, and so do later ones. */
  close() {
    this._end(new Face96Error('closed', 'The detector was closed.'));
  }

  /** @internal @param {Face96Error} reason */
  _end(reason) {
    if (this.#ended) return;
    this.#ended = reason;
    for (const job of [this.#waiting, this.#running]) if (job) drop(job, reason);
    this.#waiting = this.#running = null;
    this.#backend.close();
  }

  async #pump() {
    if (this.#running || !this.#waiting) return;
    const job = (this.#running = this.#waiting);
    this.#waiting = null;
    try {
      const result = await this.#run(job);
      if (!job.settled) {
        job.settled = true;
        job.resolve(result);
      }
    } catch (error) {
      drop(job, asFace96Error(error, 'internal'));
    }
    if (this.#running === job) this.#running = null;
    this.#pump();
  }

  /** @param {Job} job @returns {Promise<Detection>} */
  async #run(job) {
    if (this.#backend.dead) await this.#revive();
    const bitmap = await job.bitmap.catch((error) => {
      throw new Face96Error('bad-frame', `The frame cannot be read: ${error.message}`, { cause: error });
    });
    // Dropped while its bitmap was made: drop() closes the bitmap, and nobody waits for a result.
    if (this.#ended) throw this.#ended;
    const { face, timings } = await this.#backend.detect(bitmap, job.box);
    const seen = !this.info.presence || face.score >= this.#minScore;
    return {
      faces: seen ? [face] : [],
      timings: { capture: job.capture, ...timings, total: performance.now() - job.start },
    };
  }

  /** One crash may be bad luck; a second one says that starting again does not help. */
  async #revive() {
    if (this.#restarts === 1) throw new Face96Error('worker-crashed', 'The worker stopped twice; create a new detector.');
    const backend = await this.#restart();
    this.#restarts++;
    if (this.#ended) backend.close();
    else this.#backend = backend;
  }
}

/** @param {Job} job @param {Face96Error} reason */
function drop(job, reason) {
  if (job.settled) return;
  job.settled = true;
  job.reject(reason);
  // Closing one that was handed to the worker is harmless: a transferred bitmap is empty here.
  job.bitmap.then((bitmap) => bitmap.close(), () => {});
}
