// The class of <face-keypoints>: takes the camera or any video, draws the keypoints over it, and fires events. Importing this file has no
// effect and is safe without a DOM; `face96/define` registers the element.
import { openCamera } from './camera.js';
import { OTHER_ORIGIN } from './crop.js';
import { drawFaces, fit } from './draw.js';
import { append, dress, styleOf } from './element-shadow.js';
import { Face96Error, asFace96Error } from './errors.js';
import { frames } from './frames.js';
import { createDetector } from './index.js';
import { kindOf } from './source.js';

/** @typedef {import('./index.js').Detection} Detection */
/** @typedef {import('./index.js').Face} Face */
/** @typedef {import('./index.js').FaceDetector} FaceDetector */
/** @typedef {import('./index.js').NetInfo} NetInfo */
/** @typedef {import('./errors.js').ErrorCode} ErrorCode */

/**
 * The element's events and their `detail`. `error` says why a start or a run failed; after it, `start()` works again.
 * @typedef {object} FaceKeypointsEvents
 * @property {CustomEvent<{ info: NetInfo }>} ready the nets are loaded
 * @property {CustomEvent<Detection>} keypoints once a frame
 * @property {CustomEvent<{ face: Face }>} facefound a face came into the picture
 * @property {CustomEvent<{ trackId: number }>} facelost a face left it
 * @property {CustomEvent<{ face: Face }>} blink both eyes closed and opened again; as in the next four events, `face` is that of this frame
 * @property {CustomEvent<{ face: Face }>} mouthopen
 * @property {CustomEvent<{ face: Face }>} mouthclose
 * @property {CustomEvent<{ face: Face }>} nod
 * @property {CustomEvent<{ face: Face }>} shake
 * @property {CustomEvent<{ reason: Interruption }>} interrupted no frames arrive; the element continues by itself when they do
 * @property {CustomEvent<null>} resumed frames arrive again
 * @property {CustomEvent<{ code: ErrorCode, message: string }>} error
 */

/**
 * Why no frames arrive: the system or another program mutes the camera, the video is paused, it has ended, or the reason is
 * unknown.
 * @typedef {'muted' | 'paused' | 'ended' | 'silent'} Interruption
 */

/** The sentence for each. @type {Record<Interruption, string>} */
const INTERRUPTED = {
  muted: 'The camera gives no picture; another program may have taken it, or its cover is shut.',
  paused: 'The video is paused.',
  ended: 'The video has ended.',
  silent: 'No picture has come for a while.',
};
/** A video without a frame for this long, in ms, is silent. */
const SILENCE = 3000;

/** Without a DOM, a class that cannot be constructed stands in. @type {typeof HTMLElement} */
const Base = globalThis.HTMLElement ?? class {};

/** Boolean, string and number attributes, each with the name of its property. */
const BOOLEANS = { camera: 'camera', mirror: 'mirror', autostart: 'autostart' };
const STRINGS = { weights: 'weights', finder: 'finder', wasm: 'wasm', deviceId: 'device-id' };
const NUMBERS = { maxFaces: 'max-faces', smoothing: 'smoothing', minScore: 'min-score' };

/**
 * Takes the camera or any video, draws the keypoints over it, and fires events. Every attribute is also a property, in camelCase, and both
 * are kept in step. Nothing starts by itself except with `autostart`; otherwise use the button or {@link FaceKeypointsElement#start}. The
 * element animates nothing: it shows a `video` and a `canvas` over it, so reduced motion needs no special case.
 *
 * @tag face-keypoints
 * @tagname face-keypoints
 * @attr {boolean} camera - use the user's camera
 * @attr {boolean} mirror - show the picture as a mirror does
 * @attr {boolean} autostart - start as soon as the element is in a document
 * @attr {string} weights - address of the keypoint weights; default: those of this package
 * @attr {string} finder - address of the finder's weights; `none` for the guide square; default: those of this package
 * @attr {string} wasm - address of the wasm; default: that of this package
 * @attr {string} device-id - which camera; default: the one that faces the user
 * @attr {number} max-faces - 1 to 4; default 1
 * @attr {number} smoothing - its strength: 0 off, 1 the default, larger is calmer and slower
 * @attr {number} min-score - the presence score that a face needs, 0 to 1; default 0.5
 * @fires {CustomEvent<{ info: NetInfo }>} ready - the nets are loaded
 * @fires {CustomEvent<Detection>} keypoints - once a frame
 * @fires {CustomEvent<{ face: Face }>} facefound - a face came into the picture
 * @fires {CustomEvent<{ trackId: number }>} facelost - a face left it
 * @fires {CustomEvent<{ face: Face }>} blink - both eyes closed and opened again; needs a net with 68 points
 * @fires {CustomEvent<{ face: Face }>} mouthopen - the mouth opened
 * @fires {CustomEvent<{ face: Face }>} mouthclose - the mouth closed
 * @fires {CustomEvent<{ face: Face }>} nod - the head nodded
 * @fires {CustomEvent<{ face: Face }>} shake - the head was shaken
 * @fires {CustomEvent<{ reason: Interruption }>} interrupted - no frames arrive; the element continues by itself when they do
 * @fires {CustomEvent<null>} resumed - frames arrive again
 * @fires {CustomEvent<{ code: ErrorCode, message: string }>} error - a start or a run failed; start() works again
 * @slot button - another text for the button
 * @csspart video - the picture
 * @csspart overlay - the canvas with the keypoints
 * @csspart front - the cover of an idle element
 * @csspart button - the button that starts
 * @csspart status - the sentence about the current state
 * @cssproperty [--face-keypoints-point=#3df5a6] - colour of the points
 * @cssproperty [--face-keypoints-edge=rgb(61 245 166 / 0.6)] - colour of the lines
 * @cssproperty [--face-keypoints-point-size=0.012] - radius of a point, as a share of the face's box
 * @cssproperty [--face-keypoints-background=#e9ecef] - background of an idle element
 * @cssproperty [--face-keypoints-color=#1c2126] - colour of the text
 * @cssproperty [--face-keypoints-accent=#0a6b4b] - colour of the button
 * @cssproperty [--face-keypoints-accent-color=#fff] - colour of the button's text
 * @cssproperty [--face-keypoints-font=1rem/1.4 system-ui, sans-serif] - font of the text
 * @cssproperty [--face-keypoints-aspect-ratio=4 / 3] - aspect ratio of the element
 */
export class FaceKeypointsElement extends Base {
  /** The current run; aborted by stop(), by an error and by the next start. @type {AbortController | null} */
  #session = null;
  /** Kept from start to start, so that files are loaded once. @type {Promise<FaceDetector> | null} */
  #detector = null;
  /** The detector once it is loaded. @type {FaceDetector | null} */
  #loaded = null;
  #loading = new AbortController();
  /** @type {HTMLVideoElement | HTMLCanvasElement | null} */ #source = null;
  /** @type {Detection | null} */ #result = null;
  /** @type {Set<number>} */ #tracks = new Set();
  /** The drawing's colours and sizes. */ #style = styleOf(this);
  /** Why no frames arrive, or null. @type {Interruption | null} */ #interruption = null;
  /** When the last frame arrived, in ms. */
  #seen = 0;
  /** Removes the listeners when the element leaves its document. @type {AbortController | null} */ #connection = null;
  #video;
  #overlay;
  #front;
  #status;

  static get observedAttributes() {
    return [BOOLEANS, STRINGS, NUMBERS].flatMap((group) => Object.values(group));
  }

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    dress(root);
    this.#video = append(root, 'video', { part: 'video', playsinline: '' });
    // The attribute alone mutes only elements that the parser made.
    this.#video.muted = true;
    this.#overlay = append(root, 'canvas', { part: 'overlay', role: 'img', 'aria-label': 'Keypoints' });
    this.#front = append(root, 'div', { part: 'front', class: 'front' });
    const button = append(this.#front, 'button', { part: 'button', type: 'button' });
    append(button, 'slot', { name: 'button' }).textContent = 'Start camera';
    button.addEventListener('click', () => this.start());
    this.#status = append(this.#front, 'p', { part: 'status', role: 'status', 'aria-live': 'polite' });
  }

  /** Use the user's camera. @returns {boolean} */
  get camera() {
    return this.hasAttribute('camera');
  }
  set camera(on) {
    this.toggleAttribute('camera', Boolean(on));
  }

  /** Show the picture as a mirror does; coordinates stay those of the frame. @returns {boolean} */
  get mirror() {
    return this.hasAttribute('mirror');
  }
  set mirror(on) {
    this.toggleAttribute('mirror', Boolean(on));
  }

  /** Start as soon as the element is in a document. @returns {boolean} */
  get autostart() {
    return this.hasAttribute('autostart');
  }
  set autostart(on) {
    this.toggleAttribute('autostart', Boolean(on));
  }

  /** Address of the keypoint weights; null for those of this package. @returns {string | null} */
  get weights() {
    return this.getAttribute('weights');
  }
  set weights(url) {
    this.#setText('weights', url);
  }

  /** Address of the finder's weights; null for those of this package, 'none' for the guide square. @returns {string | null} */
  get finder() {
    return this.getAttribute('finder');
  }
  set finder(url) {
    this.#setText('finder', url);
  }

  /** Address of the wasm; null for that of this package. @returns {string | null} */
  get wasm() {
    return this.getAttribute('wasm');
  }
  set wasm(url) {
    this.#setText('wasm', url);
  }

  /** Which camera; null for the one that faces the user. @returns {string | null} */
  get deviceId() {
    return this.getAttribute('device-id');
  }
  set deviceId(id) {
    this.#setText('device-id', id);
  }

  /** 1 to 4. Default 1. @returns {number} */
  get maxFaces() {
    return this.#number('max-faces', 1);
  }
  set maxFaces(value) {
    this.setAttribute('max-faces', String(value));
  }

  /** Strength of the smoothing: 0 off, 1 the default, larger is calmer and slower. @returns {number} */
  get smoothing() {
    return this.#number('smoothing', 1);
  }
  set smoothing(value) {
    this.setAttribute('smoothing', String(Number(value)));
  }

  /** The presence score that a face needs, 0..1. Default 0.5. @returns {number} */
  get minScore() {
    return this.#number('min-score', 0.5);
  }
  set minScore(value) {
    this.setAttribute('min-score', String(value));
  }

  /**
   * A video or canvas to use instead of the camera. It stays in its place in the page; the keypoints are drawn in this
   * element, which may be laid over it.
   * @returns {HTMLVideoElement | HTMLCanvasElement | null}
   */
  get source() {
    return this.#source;
  }
  set source(source) {
    this.#source = source;
    if (this.running) this.start();
  }

  /** Whether the detection is started. */
  get running() {
    return this.#session !== null;
  }

  /** The result for the last frame; null while nothing runs. */
  get result() {
    return this.#result;
  }

  connectedCallback() {
    // Properties set before the class was registered lie on the instance and hide the accessors.
    for (const name of [...Object.keys(BOOLEANS), ...Object.keys(STRINGS), ...Object.keys(NUMBERS), 'source']) {
      if (!Object.hasOwn(this, name)) continue;
      const self = /** @type {any} */ (this);
      const value = self[name];
      delete self[name];
      self[name] = value;
    }
    this.#connection = new AbortController();
    const { signal } = this.#connection;
    // A window that closes, or a frame that is removed, takes the element along without calling disconnectedCallback.
    const view = this.ownerDocument.defaultView;
    view?.addEventListener('pagehide', () => this.#leave(), { signal });
    view?.addEventListener('pageshow', ({ persisted }) => void (persisted && this.autostart && this.start()), {
      signal,
    });
    if (this.autostart && !this.running) this.start();
  }

  /** The element moved to another document: that of a frame or of another window. */
  adoptedCallback() {
    if (this.shadowRoot) dress(this.shadowRoot);
  }

  disconnectedCallback() {
    this.#connection?.abort();
    // Moving the element removes and appends it in one go: the camera then stays on.
    queueMicrotask(() => {
      if (!this.isConnected) this.#leave();
    });
  }

  #leave() {
    this.stop();
    this.#discard();
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (Object.values(NUMBERS).includes(name)) {
      try {
        this.#loaded?.configure({ maxFaces: this.maxFaces, smoothing: this.smoothing, minScore: this.minScore });
      } catch (error) {
        this.#fail(error);
      }
    } else if (['weights', 'finder', 'wasm'].includes(name)) {
      this.#discard();
      if (this.running) this.start();
    } else if (name === 'autostart') {
      if (after !== null && this.isConnected && !this.running) this.start();
    } else if (['camera', 'device-id'].includes(name) && this.running) this.start();
  }

  /**
   * Starts the camera (or the `source`) and the detection; a previous run ends. Never rejects: an `error` event reports any
   * failure.
   * @returns {Promise<boolean>} whether it runs
   */
  async start() {
    this.stop();
    const session = (this.#session = new AbortController());
    const { signal } = session;
    try {
      this.#checkSource();
      const [detector, camera] = await Promise.all([this.#load(), this.#source ? null : this.#openCamera(signal)]);
      if (signal.aborted) return false;
      this.#front.classList.add('running');
      this.#say('Running.');
      const source = this.#source ?? this.#video;
      if (kindOf(source) === 'HTMLVideoElement') this.#watch(/** @type {HTMLVideoElement} */ (source), signal);
      // From here on it runs without being awaited.
      Promise.race([this.#follow(detector, source, signal), camera?.ended].filter(Boolean)).catch((error) => {
        if (!signal.aborted) this.#fail(error);
      });
      return true;
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
      return false;
    }
  }

  /** Switches the camera off. The nets stay loaded for the next start. */
  stop() {
    if (!this.#session) return;
    this.#session.abort();
    this.#session = null;
    this.#interruption = null;
    this.#front.classList.remove('running');
    this.#say('');
    this.#forget();
  }

  /** Takes the faces' current expressions as their rest, see {@link FaceDetector#recalibrate}. */
  recalibrate() {
    this.#loaded?.recalibrate();
  }

  /** Removes the results from the display. */
  #forget() {
    this.#result = null;
    this.#overlay.getContext('2d')?.clearRect(0, 0, this.#overlay.width, this.#overlay.height);
    this.#loaded?.reset();
    this.#tell([]);
  }

  /** @throws {Face96Error} `bad-option` if there is nothing to look at */
  #checkSource() {
    const kind = kindOf(this.#source);
    if (this.#source && !['HTMLVideoElement', 'HTMLCanvasElement'].includes(kind)) {
      throw new Face96Error('bad-option', `source is of the kind ${kind}; expected a video or a canvas.`);
    }
    if (!this.#source && !this.camera) {
      throw new Face96Error(
        'bad-option',
        'There is nothing to look at: set the attribute camera or the property source.',
      );
    }
  }

  /**
   * The current picture as a PNG.
   * @param {{ overlay?: boolean, mirror?: boolean }} [options] with the keypoints (default true), mirrored (default: as shown)
   * @returns {Promise<Blob>}
   * @throws {Face96Error} `empty-frame` while there is no picture, `bad-frame` if the source is from another origin
   */
  async snapshot({ overlay = true, mirror = this.mirror } = {}) {
    const source = this.#source ?? this.#video;
    const [width, height] = sizeOf(source);
    if (!this.running || !width || !height) throw new Face96Error('empty-frame', 'There is no picture yet.');
    const canvas = document.createElement('canvas');
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d');
    if (!context) throw new Face96Error('internal', 'This browser gave no 2D canvas.');
    if (mirror) context.setTransform(-1, 0, 0, 1, width, 0);
    context.drawImage(source, 0, 0);
    if (overlay) context.drawImage(this.#overlay, 0, 0, width, height);
    return new Promise((resolve, reject) => {
      try {
        canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Face96Error('internal', 'No PNG could be made.'))));
      } catch (error) {
        reject(new Face96Error('bad-frame', OTHER_ORIGIN, { cause: error }));
      }
    });
  }

  /** @param {AbortSignal} signal */
  #openCamera(signal) {
    this.#say('Waiting for the camera. Your browser may ask for permission.');
    return openCamera(this.#video, { signal, deviceId: this.deviceId ?? undefined });
  }

  /** @returns {Promise<FaceDetector>} */
  async #load() {
    if (this.#loaded) return this.#loaded;
    this.#say('Loading.');
    this.#detector ??= createDetector({
      weightsUrl: this.weights ?? undefined,
      finderUrl: this.finder === 'none' ? false : (this.finder ?? undefined),
      wasmUrl: this.wasm ?? undefined,
      maxFaces: this.maxFaces,
      smoothing: this.smoothing,
      minScore: this.minScore,
      signal: this.#loading.signal,
    });
    const loading = this.#detector;
    const detector = await loading;
    if (this.#detector === loading && !this.#loaded) {
      this.#loaded = detector;
      // Attributes may have changed during the loading.
      detector.configure({ maxFaces: this.maxFaces, smoothing: this.smoothing, minScore: this.minScore });
      this.#send('ready', { info: detector.info });
    }
    return detector;
  }

  /** Closes the detector, or ends its loading. */
  #discard() {
    this.#loading.abort();
    this.#loading = new AbortController();
    this.#detector = this.#loaded = null;
  }

  /**
   * Processes frames until the signal is aborted. Each frame is awaited before the next is taken, so a slow device drops frames.
   * @param {FaceDetector} detector
   * @param {HTMLVideoElement | HTMLCanvasElement} source
   * @param {AbortSignal} signal
   */
  async #follow(detector, source, signal) {
    let crashed = false;
    for await (const { timestamp } of frames(source, { signal })) {
      let result;
      try {
        result = await detector.detect(source, { timestamp });
      } catch (error) {
        if (signal.aborted) return;
        const { code } = asFace96Error(error, 'internal');
        // A camera that changes its resolution briefly has no picture. One crash is forgiven: the next frame starts
        // the nets again.
        if (code === 'empty-frame' || code === 'superseded') continue;
        if ((code === 'worker-crashed' || code === 'wasm-crashed') && !crashed) {
          crashed = true;
          continue;
        }
        throw error;
      }
      if (signal.aborted) return;
      crashed = false;
      this.#seen = performance.now();
      // If another program takes the camera, black frames may continue to arrive.
      if (this.#interruption === 'muted') continue;
      this.#interrupt(null);
      this.#result = result;
      this.#draw(result, detector.info);
      this.#tell(result.faces);
      this.#send('keypoints', result);
    }
  }

  /**
   * Watches whether frames arrive, and resumes the camera's video if the system has paused it.
   * @param {HTMLVideoElement} video
   * @param {AbortSignal} signal
   */
  #watch(video, signal) {
    this.#seen = performance.now();
    const [track] = /** @type {MediaStream | null} */ (video.srcObject)?.getVideoTracks?.() ?? [];
    let muted = track?.muted ?? false;
    const look = () => {
      if (video.ownerDocument.hidden) this.#seen = performance.now();
      else if (video.paused && video === this.#video) video.play().catch(() => {}); // tries again at the next check
      if (muted) this.#interrupt('muted');
      else if (video.ended || (track && track.readyState === 'ended')) this.#interrupt('ended');
      else if (video.paused) this.#interrupt('paused');
      else if (performance.now() - this.#seen > SILENCE) this.#interrupt('silent');
      // A camera reports its own return; any other source is back with the next frame.
      else if (this.#interruption === 'muted') this.#interrupt(null);
    };
    for (const type of ['pause', 'ended']) video.addEventListener(type, look, { signal });
    for (const type of ['mute', 'unmute', 'ended']) {
      track?.addEventListener(
        type,
        () => {
          if (type !== 'ended') muted = type === 'mute';
          look();
        },
        { signal },
      );
    }
    const timer = setInterval(look, SILENCE / 3);
    signal.addEventListener('abort', () => clearInterval(timer));
    look();
  }

  /** @param {Interruption | null} reason null when frames arrive */
  #interrupt(reason) {
    if (!this.running || reason === this.#interruption) return;
    this.#interruption = reason;
    if (reason) {
      // A paused picture stays, and its points with it.
      if (reason === 'muted' || reason === 'silent') this.#forget();
      this.#say(INTERRUPTED[reason]);
      this.#send('interrupted', { reason });
    } else {
      this.#say('Running.');
      this.#send('resumed', null);
    }
  }

  /** Reports which faces appeared and disappeared. @param {Face[]} faces */
  #tell(faces) {
    const now = new Set(faces.map((face) => face.trackId ?? 0));
    for (const trackId of [...this.#tracks]) {
      if (now.has(trackId)) continue;
      this.#tracks.delete(trackId);
      this.#send('facelost', { trackId });
    }
    for (const face of faces) {
      const trackId = face.trackId ?? 0;
      if (this.#tracks.has(trackId)) continue;
      this.#tracks.add(trackId);
      this.#send('facefound', { face });
    }
    for (const face of faces) for (const type of face.events) this.#send(type, { face });
    if (this.#session && !this.#interruption) {
      const count = this.#tracks.size;
      this.#say(count === 0 ? 'No face in the picture.' : count === 1 ? 'One face.' : `${count} faces.`);
    }
  }

  /** @param {Detection} result @param {NetInfo} info */
  #draw({ faces, frame }, info) {
    const canvas = this.#overlay;
    if (canvas.width !== frame.width || canvas.height !== frame.height) Object.assign(canvas, frame);
    const context = canvas.getContext('2d');
    if (!context) return;
    context.clearRect(0, 0, canvas.width, canvas.height);
    const { point, edge, size } = this.#style();
    drawFaces(context, faces, {
      view: fit(frame, canvas),
      edges: info.schema.edges,
      point,
      line: edge,
      size,
      confidence: 'fade',
    });
  }

  /** @param {unknown} reason */
  #fail(reason) {
    const error = asFace96Error(reason, 'internal');
    this.stop();
    // After any fault of a detector, the next start makes another. The camera's faults do not affect the detector.
    if (!error.code.startsWith('camera-')) this.#discard();
    this.#say(error.message);
    this.#send('error', { code: error.code, message: error.message });
  }

  /** @param {string} sentence */
  #say(sentence) {
    // Writing the same text again would make a screen reader repeat it.
    if (this.#status.textContent !== sentence) this.#status.textContent = sentence;
  }

  /** @param {string} type @param {unknown} detail */
  #send(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @param {string} name @param {string | null} text */
  #setText(name, text) {
    if (text === null || text === undefined) this.removeAttribute(name);
    else this.setAttribute(name, text);
  }

  /** @param {string} name @param {number} otherwise */
  #number(name, otherwise) {
    const text = this.getAttribute(name);
    return text === null || text.trim() === '' ? otherwise : Number(text);
  }
}

/** @param {HTMLVideoElement | HTMLCanvasElement} source @returns {[number, number]} */
function sizeOf(source) {
  return 'videoWidth' in source ? [source.videoWidth, source.videoHeight] : [source.width, source.height];
}
