// Where frames come from. Camera (camera.js), sample and files look the same from outside: a picture that changes, and a
// promise for its next frame.
import { createSyntheticFace } from './pkg/synthetic.js';
import { context2d } from './dom.js';

/**
 * @typedef {object} Frame
 * @property {number} [timestamp] milliseconds on the source's own clock; none for a still picture
 * @property {number} skipped frames that were shown since the one before and that nobody took
 *
 * @typedef {object} Source
 * @property {'camera' | 'sample' | 'image' | 'video'} kind
 * @property {string} name for people
 * @property {string} greeting said when it is open
 * @property {() => Promise<Frame | null>} next waits for a new frame; null at the end. Rejects when the source fails, with
 *   a sentence, and when its signal is aborted
 * @property {() => VideoFrame | null} [take] the current frame of a video, without a copy; null where that cannot be had
 * @property {(canvas: HTMLCanvasElement, taken: VideoFrame | null) => number} paint draws the current frame, or the one that was
 *   taken, on a canvas, which gets the frame's size. Returns how many pixels of the original one of the canvas is, above 1
 *   where a big picture was shrunk; 0 without a picture
 * @property {() => void} [again] gives a still picture's frame once more, for other settings
 */

/** Hands frames to the one who waits, until the source ends, fails or is stopped. */
export class FrameGate {
  /** @type {{ resolve: (frame: Frame | null) => void, reject: (reason: unknown) => void } | null} */
  #reader = null;
  /** A frame that nobody waited for; the newest. @type {Frame | null} */
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
      if (this.#ended) this.end(this.#ended.error);
      else if (this.#kept) this.give(this.#kept);
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
    if (error === null) this.#reader?.resolve(null);
    else this.#reader?.reject(error);
    this.#reader = null;
  }
}

/** The longer side that bigger frames are shrunk to: a face in them keeps more than the net's 96 pixels. */
const MAX_SIDE = 1600;

/**
 * Gives a canvas the shape of a picture, and no more than MAX_SIDE pixels.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width of the picture
 * @param {number} height
 * @returns {number} pixels of the picture for one of the canvas
 */
function fit(canvas, width, height) {
  const scale = Math.max(1, Math.max(width, height) / MAX_SIDE);
  const [w, h] = [Math.max(1, Math.round(width / scale)), Math.max(1, Math.round(height / scale))];
  // Setting a size clears the canvas and takes new memory: only when it changes.
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  return scale;
}

/** The context of frames that the net gets from a canvas: kept in memory, since it runs on the CPU. @param {HTMLCanvasElement} canvas */
const frameContext = (canvas) => context2d(canvas, { willReadFrequently: true, alpha: false });

/**
 * What a source does for a video element: each new frame once, and of several that passed only the last.
 * @param {HTMLVideoElement} video
 * @param {FrameGate} gate
 * @returns {Pick<Source, 'next' | 'take' | 'paint'>}
 */
export function videoFrames(video, gate) {
  let presented = 0;
  return {
    next() {
      if ('requestVideoFrameCallback' in video) {
        video.requestVideoFrameCallback((_, { mediaTime, presentedFrames }) => {
          const skipped = presented ? Math.max(0, presentedFrames - presented - 1) : 0;
          presented = presentedFrames;
          gate.give({ timestamp: mediaTime * 1000, skipped });
        });
      } else {
        requestAnimationFrame((timestamp) => gate.give({ timestamp, skipped: 0 }));
      }
      return gate.wait();
    },
    take() {
      // A bigger one is shrunk first, and then the net looks at that.
      if (typeof VideoFrame !== 'function' || Math.max(video.videoWidth, video.videoHeight) > MAX_SIDE) return null;
      try {
        return new VideoFrame(video);
      } catch {
        return null; // no picture yet
      }
    },
    paint(canvas, taken) {
      if (taken) {
        fit(canvas, taken.displayWidth, taken.displayHeight);
        context2d(canvas, { alpha: false }).drawImage(taken, 0, 0);
        return 1;
      }
      const { videoWidth, videoHeight, readyState } = video;
      // A camera that changes its resolution has no picture for a moment.
      if (!videoWidth || readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return 0;
      const scale = fit(canvas, videoWidth, videoHeight);
      frameContext(canvas).drawImage(video, 0, 0, canvas.width, canvas.height);
      return scale;
    },
  };
}

/**
 * The face that the program draws itself.
 * @param {{ width: number, height: number }} size in pixels
 * @param {AbortSignal} signal
 * @returns {Promise<Source>}
 */
export async function openSample({ width, height }, signal) {
  const face = await createSyntheticFace({ seed: 7, width, height });
  signal.addEventListener('abort', () => face.close());
  if (signal.aborted) face.close();
  signal.throwIfAborted();
  const gate = new FrameGate(signal);
  /** Time since the first frame, in ms. A pause of the page is no time. */
  let clock = 0;
  let last = NaN;
  return {
    kind: 'sample',
    name: 'sample',
    greeting: 'Playing the sample: a face drawn by the program itself.',
    next() {
      requestAnimationFrame((now) => {
        if (now - last < 250) clock += now - last;
        last = now;
        gate.give({ timestamp: clock, skipped: 0 });
      });
      return gate.wait();
    },
    paint(canvas) {
      fit(canvas, width, height);
      frameContext(canvas).putImageData(face.draw(clock / 1000), 0, 0);
      return 1;
    },
  };
}

/** Bigger files are refused: the whole picture has to fit in memory. */
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
  const kind = file.type.split('/')[0];
  if (kind === 'image') return openPicture(file, signal);
  if (kind === 'video') return openVideo(file, video, signal);
  throw new Error(`${file.name} is neither a picture nor a video.`);
}

/** @param {File} file @param {AbortSignal} signal @returns {Promise<Source>} */
async function openPicture(file, signal) {
  if (file.size > MAX_PICTURE_BYTES) {
    throw new Error(`${file.name} has ${Math.round(file.size / 1e6)} MB; a picture may have ${MAX_PICTURE_BYTES / 1e6}.`);
  }
  const url = URL.createObjectURL(file);
  const image = new Image();
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new Error(`${file.name} is damaged, or a kind of picture that this browser does not know.`));
      image.src = url;
    });
    signal.throwIfAborted();
    // Its size is known before it is decoded; an SVG may have none.
    const [width, height] = [image.naturalWidth || 512, image.naturalHeight || 512];
    if (width * height > MAX_PICTURE_PIXELS) {
      throw new Error(`${file.name} has ${width} × ${height} pixels; a picture may have ${MAX_PICTURE_PIXELS / 1e6} million.`);
    }
    const shrunk = document.createElement('canvas');
    const scale = fit(shrunk, width, height);
    const context = frameContext(shrunk);
    context.imageSmoothingQuality = 'high';
    context.drawImage(image, 0, 0, shrunk.width, shrunk.height);
    const gate = new FrameGate(signal);
    gate.give({ skipped: 0 });
    return {
      kind: 'image',
      name: file.name,
      greeting: `Showing ${file.name}.`,
      next: () => gate.wait(),
      paint(canvas) {
        fit(canvas, shrunk.width, shrunk.height);
        frameContext(canvas).drawImage(shrunk, 0, 0);
        return scale;
      },
      again: () => gate.give({ skipped: 0 }),
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
  video.addEventListener('ended', () => gate.end(null), { signal });
  video.addEventListener('error', () => gate.end(broken()), { signal });
  signal.addEventListener('abort', () => {
    video.pause();
    video.removeAttribute('src');
    video.load();
    URL.revokeObjectURL(url);
  });
  // A hidden page computes nothing, so the video waits for it.
  document.addEventListener('visibilitychange', () => void (document.hidden ? video.pause() : video.play()), { signal });
  video.src = url;
  try {
    await video.play();
  } catch {
    signal.throwIfAborted();
    throw broken();
  }
  if (!video.videoWidth) throw new Error(`${file.name} has sound only, no picture.`);
  return { kind: 'video', name: file.name, greeting: `Playing ${file.name}.`, ...videoFrames(video, gate) };
}
