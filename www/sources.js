// The sources of frames. Camera (camera.js), sample and files share one interface: a promise for the next frame, and
// the frame.
import { frames } from './pkg/frames.js';
import { isHeic } from './pkg/index.js';
import { createSyntheticFace } from './pkg/synthetic.js';
import { context2d } from './dom.js';

/**
 * The frame of a still picture has no time.
 * @typedef {Partial<import('./pkg/frames.js').FrameTime>} Frame
 *
 * @typedef {VideoFrame | HTMLVideoElement | HTMLCanvasElement} Picture
 *
 * @typedef {object} Source
 * @property {'camera' | 'sample' | 'image' | 'video'} kind
 * @property {string} name for people
 * @property {string} greeting shown when it is open
 * @property {number} scale pixels of the original per pixel of a frame: above 1 if a big picture was shrunk
 * @property {() => Promise<Frame | null>} next waits for a new frame; null at the end. Rejects when the source fails, with
 *   a sentence, and when its signal is aborted
 * @property {(keep: boolean) => Picture | null} take the current frame; null without a picture. From a video element it is a VideoFrame
 *   if it is to be kept, which the caller closes, and otherwise the element itself, which plays on; a canvas changes with the next call
 * @property {() => void} [again] delivers a still picture's frame once more, for other settings
 */

/** Width and height of a frame. @param {Picture} p */
export const sizeOf = (p) =>
  'displayWidth' in p
    ? [p.displayWidth, p.displayHeight]
    : 'videoWidth' in p
      ? [p.videoWidth, p.videoHeight]
      : [p.width, p.height];

/** Frees a frame's memory. @param {Picture | null} picture */
export function release(picture) {
  if (picture && 'close' in picture) picture.close();
}

/** A queue of at most one frame between a source and its reader, until the source ends, fails or is stopped. */
export class FrameGate {
  /** @type {{ resolve: (frame: Frame | null) => void, reject: (reason: unknown) => void } | null} */
  #reader = null;
  /** The newest frame that nobody waited for. @type {Frame | null} */
  #kept = null;
  /** @type {{ error: unknown } | null} */
  #ended = null;

  /** @param {AbortSignal} signal stops it */
  constructor(signal) {
    signal.addEventListener('abort', () => this.end(signal.reason), { once: true });
  }

  /** @returns {Promise<Frame | null>} */
  wait() {
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
      if (this.#kept) this.give(this.#kept);
      else if (this.#ended) this.end(this.#ended.error);
    });
  }

  /** @param {Frame} frame */
  give(frame) {
    this.#kept = this.#reader ? null : frame;
    this.#reader?.resolve(frame);
    this.#reader = null;
  }

  /** @param {unknown} error null at the natural end */
  end(error) {
    this.#ended ??= { error };
    if (error !== null) this.#kept = null;
    if (error === null) this.#reader?.resolve(null);
    else this.#reader?.reject(error);
    this.#reader = null;
  }
}

/** The longer side to which bigger pictures are shrunk: a face in them keeps more than the net's 96 pixels. */
export const MAX_SIDE = 1600;

/**
 * Gives a canvas the shape of a picture, with no side longer than MAX_SIDE.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width of the picture
 * @param {number} height
 * @returns {number} pixels of the picture per pixel of the canvas
 */
function fit(canvas, width, height) {
  const scale = Math.max(1, Math.max(width, height) / MAX_SIDE);
  Object.assign(canvas, {
    width: Math.max(1, Math.round(width / scale)),
    height: Math.max(1, Math.round(height / scale)),
  });
  return scale;
}

/** The context of a canvas whose frames the net reads: kept in memory, because the net runs on the CPU. @param {HTMLCanvasElement} canvas */
const frameContext = (canvas) => context2d(canvas, { willReadFrequently: true, alpha: false });

/**
 * The part of a source that is the same for every video element.
 * @param {HTMLVideoElement} video
 * @param {FrameGate} gate
 * @param {AbortSignal} signal
 * @returns {Pick<Source, 'next' | 'take' | 'scale'>}
 */
export function videoFrames(video, gate, signal) {
  const all = frames(video, { signal });
  return {
    scale: 1,
    next() {
      all.next().then(({ value }) => value && gate.give(value));
      return gate.wait();
    },
    take(keep) {
      // A camera that changes its resolution briefly has no picture.
      if (!video.videoWidth || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return null;
      try {
        return keep ? new VideoFrame(video) : video;
      } catch {
        return video; // a browser without VideoFrame
      }
    },
  };
}

/** The faces in the sample: the first one if there is a single face. */
const SEEDS = [7, 3, 12, 21];

/**
 * Faces drawn by the program itself, each in its part of the picture, as in a video call.
 * @param {{ width: number, height: number }} size in pixels
 * @param {() => number} count of faces, 1 to 4; may change while it plays
 * @param {AbortSignal} signal
 * @returns {Promise<Source>}
 */
export async function openSample({ width, height }, count, signal) {
  const gate = new FrameGate(signal);
  const canvas = document.createElement('canvas');
  fit(canvas, width, height);
  const context = frameContext(canvas);
  /** @type {{ x: number, y: number, face: import('./pkg/synthetic.js').FaceAnimation }[]} */
  let cast = [];
  const dismiss = () => cast.splice(0).forEach(({ face }) => face.close());
  /** @param {number} n */
  const gather = async (n) => {
    const rows = Math.ceil(n / 2);
    const next = await Promise.all(
      SEEDS.slice(0, n).map(async (seed, i) => {
        const row = Math.floor(i / 2);
        // A single face in a row gets the whole row.
        const columns = Math.min(2, n - 2 * row);
        const [x, right] = [i % 2, (i % 2) + 1].map((column) => Math.round((width * column) / columns));
        const [y, bottom] = [row, row + 1].map((row) => Math.round((height * row) / rows));
        return { x, y, face: await createSyntheticFace({ seed, width: right - x, height: bottom - y }) };
      }),
    );
    dismiss();
    cast = next;
    if (signal.aborted) dismiss();
  };
  await gather(count());
  signal.throwIfAborted();
  signal.addEventListener('abort', dismiss);
  /** Time since the first frame, in ms. Pauses of the page do not count. */
  let clock = 0;
  let last = NaN;
  return {
    kind: 'sample',
    name: 'sample',
    greeting: 'Playing the sample, drawn by the program itself: as many faces as are looked for.',
    scale: 1,
    async next() {
      if (cast.length !== count()) await gather(count());
      requestAnimationFrame((now) => {
        if (now - last < 250) clock += now - last;
        last = now;
        gate.give({ timestamp: clock });
      });
      return gate.wait();
    },
    take() {
      for (const { x, y, face } of cast) context.putImageData(face.draw(clock / 1000), x, y);
      return canvas;
    },
  };
}

/** Bigger files are refused, because the whole picture must fit in memory. */
const MAX_PICTURE_BYTES = 100e6;
const MAX_PICTURE_PIXELS = 64e6;

/**
 * Opens a picture or a video.
 * @param {File} file
 * @param {HTMLVideoElement} video
 * @param {AbortSignal} signal
 * @returns {Promise<Source>}
 * @throws {Error} with a sentence that names the file
 */
export async function openFile(file, video, signal) {
  if (file.size === 0) throw new Error(`${file.name} is empty.`);
  if (!/^(image|video)\//.test(typeOf(file))) throw new Error(`${file.name} is neither a picture nor a video.`);
  return kindOfFile(file) === 'video' ? openVideo(file, video, signal) : openPicture(file, signal);
}

/** Types by file extension, for systems that know no type for such files. @type {[RegExp, string][]} */
const ENDINGS = [
  [/\.(hei[cf]|jfif|jpe?g|png|webp|avif|gif|bmp|tiff?)$/i, 'image/'],
  [/\.(mp4|m4v|mov|webm|mkv|ogv|avi)$/i, 'video/'],
];
/** @param {File} file @returns {string} */
const typeOf = ({ type, name }) => type || (ENDINGS.find(([ending]) => ending.test(name))?.[1] ?? '');

/** How a file would be played. @param {File} file @returns {'image' | 'video'} */
export const kindOfFile = (file) => (typeOf(file).startsWith('video/') ? 'video' : 'image');

/** @param {File} file @param {AbortSignal} signal @returns {Promise<Source>} */
async function openPicture(file, signal) {
  if (file.size > MAX_PICTURE_BYTES) {
    throw new Error(
      `${file.name} has ${Math.round(file.size / 1e6)} MB; a picture may have ${MAX_PICTURE_BYTES / 1e6}.`,
    );
  }
  const url = URL.createObjectURL(file);
  const image = new Image();
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
      image.src = url;
    }).catch(async () => {
      const heic = await isHeic(file);
      throw new Error(
        heic
          ? `${file.name} is HEIC, which this browser does not read: save it as JPEG, or take it as "most compatible" in the camera's settings.`
          : `${file.name} is damaged, or a kind of picture that this browser does not know.`,
      );
    });
    signal.throwIfAborted();
    // The size is known before decoding; an SVG may have none.
    const [width, height] = [image.naturalWidth || 512, image.naturalHeight || 512];
    if (width * height > MAX_PICTURE_PIXELS) {
      throw new Error(
        `${file.name} has ${width} × ${height} pixels; a picture may have ${MAX_PICTURE_PIXELS / 1e6} million.`,
      );
    }
    const shrunk = document.createElement('canvas');
    const scale = fit(shrunk, width, height);
    const context = frameContext(shrunk);
    context.imageSmoothingQuality = 'high';
    context.drawImage(image, 0, 0, shrunk.width, shrunk.height);
    const gate = new FrameGate(signal);
    gate.give({});
    return {
      kind: 'image',
      name: file.name,
      greeting: `Showing ${file.name}.`,
      scale,
      next: () => gate.wait(),
      take: () => shrunk,
      again: () => gate.give({}),
    };
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** @param {File} file @param {HTMLVideoElement} video @param {AbortSignal} signal @returns {Promise<Source>} */
async function openVideo(file, video, signal) {
  const url = URL.createObjectURL(file);
  const gate = new FrameGate(signal);
  const broken = () => new Error(`${file.name} is damaged, or a kind of video that this browser cannot play.`);
  video.addEventListener(
    'ended',
    () => {
      // The video stays on the stage, and this frame may have come while the previous one was processed.
      gate.give({ timestamp: video.currentTime * 1000 });
      gate.end(null);
    },
    { signal },
  );
  video.addEventListener('error', () => gate.end(broken()), { signal });
  signal.addEventListener('abort', () => {
    video.pause();
    video.removeAttribute('src');
    video.load();
    URL.revokeObjectURL(url);
  });
  // A hidden page computes nothing, so the video pauses for it.
  document.addEventListener('visibilitychange', () => void (document.hidden ? video.pause() : video.play()), {
    signal,
  });
  video.src = url;
  try {
    await video.play();
  } catch {
    signal.throwIfAborted();
    throw broken();
  }
  if (!video.videoWidth) throw new Error(`${file.name} has sound only, no picture.`);
  return { kind: 'video', name: file.name, greeting: `Playing ${file.name}.`, ...videoFrames(video, gate, signal) };
}
