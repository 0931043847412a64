// face96: facial keypoints in the browser. Importing this file does nothing and is safe without a DOM.
//
//   const detector = await createDetector({ maxFaces: 2 });
//   const { faces } = await detector.detect(video);
//   for (const { x, y, name } of faces[0]?.keypoints ?? []) draw(x, y, name);
//   detector.close();
import { openStream } from './backend.js';
import { Face96Error, asFace96Error } from './errors.js';
import { facesOf } from './faces.js';
import { own } from './files.js';
import { base, checkSource, keeps, kindOf, release, sizeOf, streamTime, takeFrame } from './source.js';
import { ownFile } from './wasm.js';

export { Face96Error } from './errors.js';
export { guideBox } from './crop.js';
export { isHeic } from './source.js';

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./source.js').FrameSource} FrameSource */
/** @typedef {import('./source.js').Pixels} Pixels */
/** @typedef {import('./faces.js').Face} Face */
/** @typedef {import('./faces.js').Keypoint} Keypoint */
/** @typedef {import('./faces.js').Pose} Pose */
/** @typedef {import('./faces.js').Eye} Eye */
/** @typedef {import('./faces.js').Mouth} Mouth */
/** @typedef {import('./faces.js').Brow} Brow */
/** @typedef {import('./faces.js').FaceEvent} FaceEvent */
/** @typedef {import('./engine.js').NetInfo} NetInfo */
/** @typedef {import('./wasm.js').Progress} Progress */
/** @typedef {import('./errors.js').ErrorCode} ErrorCode */
/** @typedef {import('./engine.js').Kind} Kind */
/** @typedef {import('./files.js').Bytes} Bytes */
/** @typedef {import('./source.js').Frame} Frame */

/**
 * The One-Euro filter's settings (Casiez, Roussel, Vogel 2012). Speeds are in box sides a second, so that neither the frame's
 * size nor the face's distance matters.
 * @typedef {object} Smoothing
 * @property {number} [minCutoff] Hz: lower means less jitter of a face at rest. Default 1
 * @property {number} [beta] how much the cutoff rises with the speed: higher means less lag. Default 10
 * @property {number} [dCutoff] Hz, for the speed itself. Default 1
 */

/**
 * Options that can be changed while a detector runs.
 * @typedef {object} TrackingOptions
 * @property {number} [maxFaces] find and track up to this many faces, 1 to 4. Default 1
 * @property {boolean | number | Smoothing} [smoothing] of keypoints in streams. A number is a strength: 1 is the default (and
 *   the same as true), 0 is off (and the same as false), larger is calmer and slower
 * @property {number} [minScore] 0..1: the presence score that a face needs to be found. A tracked face is lost at
 *   six tenths of it. Default 0.5; no effect if the net has no presence output (`info.presence`)
 */

/**
 * @typedef {object} LoadOptions
 * @property {string | URL} [weightsUrl] address of a weights file; the default is in this package
 * @property {Blob | ArrayBuffer | Bytes} [weights] the content of a weights file, such as a visitor's, instead of `weightsUrl`
 * @property {string | URL | false} [finderUrl] address of the finder's weights; the default is in this package. false: no finder,
 *   the face is expected in `guideBox`
 * @property {string | URL} [wasmUrl] address of the wasm; the default is whichever of the package's two suits the browser
 * @property {boolean} [worker] false runs everything on the calling thread. Default true, with that as the fallback
 * @property {AbortSignal} [signal] aborting it stops the loading, and later closes the detector
 * @property {(progress: Progress) => void} [onProgress] called while files arrive
 */

/** @typedef {LoadOptions & TrackingOptions} DetectorOptions */

/**
 * Milliseconds.
 * @typedef {object} DetectTimings
 * @property {number} capture taking the frame
 * @property {number} crop drawing boxes of the frame to the nets' input
 * @property {number} find the finder; 0 in frames in which it rests
 * @property {number} net the keypoint net, with its preprocessing and the tracking
 * @property {number} total from the call to its result, waiting included
 */

/**
 * @typedef {object} Detection
 * @property {Face[]} faces the longest tracked first; in a still picture the most certain first
 * @property {{ width: number, height: number }} frame its size in pixels
 * @property {DetectTimings} timings
 */

/**
 * Loads wasm and weights and starts the worker. Detectors with the same files share one worker, each with its own stream.
 * @param {DetectorOptions} [options]
 * @returns {Promise<FaceDetector>}
 * @throws {Face96Error} `bad-option`, `wasm-fetch`, `wasm-compile`, `wasm-unsupported`, `weights-fetch`, `weights-invalid`, `aborted`
 */
export async function createDetector(options = {}) {
  const settings = settingsOf(options);
  const { worker = true, signal, onProgress, weights, weightsUrl, finderUrl, wasmUrl } = options;
  checkLoadOptions(options);
  if (signal?.aborted) throw new Face96Error('aborted', 'Loading was aborted.');
  const files = {
    wasm: wasmUrl ? addressOf(wasmUrl, 'wasmUrl') : await ownFile(own.wasm),
    weights: weights
      ? await bytesOf(weights)
      : weightsUrl
        ? addressOf(weightsUrl, 'weightsUrl')
        : await ownFile(own.weights),
    finder: finderUrl === false ? null : finderUrl ? addressOf(finderUrl, 'finderUrl') : await ownFile(own.finder),
  };
  const open = (/** @type {import('./engine.js').Settings} */ settings) =>
    openStream(worker, files, settings, { onProgress, signal });
  const stream = await open(settings);
  if (signal?.aborted) {
    stream.close();
    throw new Face96Error('aborted', 'Loading was aborted.');
  }
  return new FaceDetector(stream, open, settings, signal);
}

/** @param {LoadOptions} options */
function checkLoadOptions({ worker = true, signal, onProgress, weights }) {
  const refuse = (/** @type {string} */ name, /** @type {unknown} */ value, /** @type {string} */ expected) => {
    throw new Face96Error(
      'bad-option',
      `${name} is ${kindOf(value) === 'String' ? `'${value}'` : kindOf(value)}; expected ${expected}.`,
    );
  };
  if (typeof worker !== 'boolean') refuse('worker', worker, 'true or false');
  if (signal && typeof signal.addEventListener !== 'function') refuse('signal', signal, 'an AbortSignal');
  if (onProgress && typeof onProgress !== 'function') refuse('onProgress', onProgress, 'a function');
  if (weights && !['Blob', 'File', 'ArrayBuffer', 'Uint8Array'].includes(kindOf(weights)))
    refuse('weights', weights, 'a Blob, ArrayBuffer or Uint8Array');
}

/**
 * Makes an address absolute: a relative one refers to the page's folder, which a worker does not know.
 * @param {string | URL} url
 * @param {string} name of the option
 */
function addressOf(url, name) {
  try {
    if (typeof url === 'string' || kindOf(url) === 'URL') return new URL(url, base()).href;
  } catch {
    // Reported below.
  }
  throw new Face96Error(
    'bad-option',
    `${name} is ${typeof url === 'string' ? `'${url}'` : kindOf(url)}; expected an address.`,
  );
}

/** @param {Blob | ArrayBuffer | Uint8Array} content @returns {Promise<Uint8Array>} */
async function bytesOf(content) {
  if (ArrayBuffer.isView(content)) return content;
  return new Uint8Array('arrayBuffer' in content ? await content.arrayBuffer() : content);
}

/** The default One-Euro settings, those of `Smoothing::default` in src/track/smoothing.rs. */
const SMOOTHING = { minCutoff: 1, beta: 10, dCutoff: 1 };

/** @param {unknown} options @param {string} what the function that takes them */
function checkObject(options, what) {
  if (typeof options === 'object' && options !== null) return;
  throw new Face96Error('bad-option', `The options of ${what} are ${String(options)}; expected an object.`);
}

/**
 * @param {TrackingOptions} options
 * @returns {import('./engine.js').Settings}
 */
function settingsOf(options) {
  checkObject(options, 'a detector');
  const { maxFaces = 1, smoothing = true, minScore = 0.5 } = options;
  if (![1, 2, 3, 4].includes(maxFaces))
    throw new Face96Error('bad-option', `maxFaces is ${maxFaces}; expected 1 to 4.`);
  if (!(typeof minScore === 'number' && minScore >= 0 && minScore <= 1))
    throw new Face96Error('bad-option', `minScore is ${minScore}; expected 0 to 1.`);
  const filter =
    smoothing && typeof smoothing === 'object'
      ? { ...SMOOTHING, ...smoothing }
      : strength(['boolean', 'number'].includes(typeof smoothing) ? Number(smoothing) : NaN);
  const { minCutoff, beta, dCutoff } = filter;
  if (![minCutoff, beta, dCutoff].every((v) => Number.isFinite(v) && v >= 0)) {
    const found = JSON.stringify(smoothing) ?? String(smoothing);
    throw new Face96Error(
      'bad-option',
      `smoothing is ${found}; expected true, false, a number from 0 up or { minCutoff, beta, dCutoff }.`,
    );
  }
  return { maxFaces, minScore, minCutoff, beta, dCutoff };
}

/** @param {number} s */
function strength(s) {
  // A cutoff of 0 means off, in wasm too.
  return s === 0
    ? { ...SMOOTHING, minCutoff: 0 }
    : { ...SMOOTHING, minCutoff: SMOOTHING.minCutoff / s, beta: SMOOTHING.beta / s };
}

/**
 * A pending call of detect().
 * @typedef {object} Job
 * @property {() => Promise<Frame>} take
 * @property {Promise<Frame> | null} frame null until it is taken
 * @property {boolean} live whether it is a frame of the stream, which a newer one supersedes
 * @property {Kind} kind
 * @property {boolean} crops
 * @property {number} start
 * @property {number} capture
 * @property {boolean} settled
 * @property {(result: Detection) => void} resolve
 * @property {(error: Face96Error) => void} reject
 */

/** Made by {@link createDetector}. */
export class FaceDetector {
  /** @type {import('./backend.js').Stream} */ #stream;
  #open;
  #restarts = 0;
  #settings;
  #signal;
  /** @type {Job | null} */ #running = null;
  /** Calls in order; at most one is a frame of the stream. @type {Job[]} */ #queue = [];
  /** Why the detector no longer works. @type {Face96Error | null} */ #ended = null;

  /**
   * @internal
   * @param {import('./backend.js').Stream} stream
   * @param {(settings: import('./engine.js').Settings) => Promise<import('./backend.js').Stream>} open
   * @param {import('./engine.js').Settings} settings
   * @param {AbortSignal} [signal]
   */
  constructor(stream, open, settings, signal) {
    this.#stream = stream;
    this.#open = open;
    this.#settings = settings;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#abort);
  }

  /** What the weights file says about the net: schema, input size, name. @returns {NetInfo} */
  get info() {
    return this.#stream.info;
  }

  /** Where the nets run. @returns {'worker' | 'main'} */
  get runsIn() {
    return this.#stream.kind;
  }

  /**
   * Finds faces and their keypoints. The frame is taken at the call; the source remains the caller's and may change or be
   * closed afterwards. Blobs, files and addresses are read when their turn comes.
   *
   * A video, a VideoFrame and anything with a `timestamp` is a frame of a stream: its faces are tracked from frame to
   * frame and smoothed. Anything else is a still picture: all its faces are searched for, and tracks stay unchanged.
   * A `box` gives the place of the face: one look there, no finder, no smoothing.
   *
   * Still pictures are answered one after the other. In a stream the newest frame wins: while one is processed, one more
   * waits, and a newer frame replaces the waiting one, whose promise rejects with `superseded`. A loop that awaits each result never
   * sees that.
   * @param {FrameSource} source
   * @param {{ box?: Box, timestamp?: number, crops?: boolean }} [options] crops: also return the crops that the net saw, see `crop`
   *   of {@link Face}. timestamp: the frame's own time in milliseconds, such as `mediaTime *
   *   1000` of requestVideoFrameCallback. Default: a VideoFrame's own timestamp, a video file's playing time, and for a camera the
   *   time of the call
   * @returns {Promise<Detection>} box and keypoints in frame pixels, with the centre of the first pixel at (0, 0)
   * @throws {Face96Error} `empty-frame`, `bad-frame`, `bad-option`, `canvas-blocked`, `superseded`, `aborted`, `closed`,
   *   `worker-crashed`, `wasm-crashed`
   */
  async detect(source, options = {}) {
    if (this.#ended) throw this.#ended;
    checkObject(options, 'detect()');
    const { box, timestamp, crops = false } = options;
    checkSource(source);
    const seconds = timestamp === undefined ? streamTime(source) : secondsOf(timestamp);
    const live = seconds !== null;
    const kind = box ? { box: placeOf(box) } : live ? { seconds } : null;
    return new Promise((resolve, reject) => {
      const take = () => takeFrame(source);
      /** @type {Job} */
      const job = {
        take,
        frame: null,
        live,
        kind,
        crops,
        start: performance.now(),
        capture: 0,
        settled: false,
        resolve,
        reject,
      };
      if (!keeps(source)) capture(job);
      const old = live ? this.#queue.findIndex((job) => job.live) : -1;
      if (old < 0) this.#queue.push(job);
      else
        drop(
          this.#queue.splice(old, 1, job)[0],
          new Face96Error('superseded', 'A newer frame took the place of this one.'),
        );
      this.#pump();
    });
  }

  /**
   * Changes options while the detector runs; options that are not given keep their values. Tracked faces keep
   * their numbers.
   * @param {TrackingOptions} options
   * @throws {Face96Error} `bad-option`
   */
  configure(options) {
    const given = settingsOf(options);
    const { maxFaces, minScore, ...filter } = this.#settings;
    this.#settings = {
      maxFaces: options.maxFaces === undefined ? maxFaces : given.maxFaces,
      minScore: options.minScore === undefined ? minScore : given.minScore,
      ...(options.smoothing === undefined
        ? filter
        : { minCutoff: given.minCutoff, beta: given.beta, dCutoff: given.dCutoff }),
    };
    if (!this.#ended) this.#stream.configure(this.#settings);
  }

  /** Drops all tracks and the waiting frame of the stream, whose promise rejects with `superseded`. */
  reset() {
    for (const job of this.#queue) if (job.live) drop(job, new Face96Error('superseded', 'The detector was reset.'));
    this.#queue = this.#queue.filter((job) => !job.live);
    if (!this.#ended) this.#stream.reset();
  }

  /**
   * Takes the expressions of the tracked faces now, and in the next seconds, as their rest, to which `eyes`, `mouth` and `brows` of a
   * {@link Face} are relative. Without it, rest is learnt from the last 20 seconds, since eyes are mostly open and lips close again and again.
   */
  recalibrate() {
    if (!this.#ended) this.#stream.recalibrate();
  }

  /** Ends the detector and frees its memory. Pending and later calls reject with `closed`. */
  close() {
    this.#end(new Face96Error('closed', 'The detector was closed.'));
  }

  #abort = () => this.#end(new Face96Error('aborted', 'The detector was aborted.'));

  /** @param {Face96Error} reason */
  #end(reason) {
    if (this.#ended) return;
    this.#ended = reason;
    this.#signal?.removeEventListener('abort', this.#abort);
    for (const job of [this.#running, ...this.#queue]) if (job) drop(job, reason);
    this.#running = null;
    this.#queue = [];
    this.#stream.close();
  }

  async #pump() {
    if (this.#running) return;
    const job = this.#queue.shift();
    if (!job) return;
    this.#running = job;
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
    if (this.#stream.dead) await this.#revive();
    const frame = await (job.frame ?? capture(job));
    // Dropped while its frame was being taken: drop() closes the frame, and nobody waits for a result.
    if (this.#ended) throw this.#ended;
    const size = sizeOf(frame);
    const { flat, crops, timings } = await this.#stream.detect(frame, job.kind, job.crops);
    return {
      faces: facesOf(flat, this.info.schema.keypoints, crops, size),
      frame: size,
      timings: { capture: job.capture, ...timings, total: performance.now() - job.start },
    };
  }

  /** One crash may be bad luck; a second one shows that restarting does not help. */
  async #revive() {
    if (this.#restarts === 1) {
      throw this.runsIn === 'worker'
        ? new Face96Error('worker-crashed', 'The worker stopped twice; create a new detector.')
        : new Face96Error('wasm-crashed', 'The wasm stopped twice; create a new detector.');
    }
    const stream = await this.#open(this.#settings);
    this.#restarts++;
    if (this.#ended) return stream.close();
    this.#stream.close();
    this.#stream = stream;
    // The settings may have changed in the meantime.
    stream.configure(this.#settings);
  }
}

/** @param {Box} box @returns {Box} */
function placeOf(box) {
  const place = { x: box.x, y: box.y, size: box.size, roll: box.roll ?? 0 };
  if (Object.values(place).every(Number.isFinite) && place.size > 0) return place;
  throw new Face96Error('bad-option', `box is ${JSON.stringify(box)}; expected finite x, y, roll and a size above 0.`);
}

/** @param {number} timestamp in ms */
function secondsOf(timestamp) {
  if (Number.isFinite(timestamp)) return timestamp / 1000;
  throw new Face96Error('bad-option', `timestamp is ${String(timestamp)}; expected milliseconds.`);
}

/** Takes the frame of a job. @param {Job} job @returns {Promise<Frame>} */
function capture(job) {
  const start = performance.now();
  const frame = (job.frame = job.take());
  frame.then(
    () => (job.capture = performance.now() - start),
    () => {}, // reported when the job's turn comes
  );
  return frame;
}

/** @param {Job} job @param {Face96Error} reason */
function drop(job, reason) {
  if (job.settled) return;
  job.settled = true;
  job.reject(reason);
  // Releasing a frame that was transferred to the worker is harmless: it is empty here.
  job.frame?.then(release, () => {});
}
