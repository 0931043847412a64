// Saves what the stage shows as files: snapshots and recordings.
import { context2d } from './dom.js';
import { compose, frameSize } from './stage.js';

/**
 * Offers bytes as a download.
 * @param {Blob} blob
 * @param {string} extension
 */
export function download(blob, extension) {
  const link = document.createElement('a');
  const local = new Date(Date.now() - new Date().getTimezoneOffset() * 60_000).toISOString();
  link.download = `face96-${local.slice(0, 19).replaceAll(':', '').replace('T', '-')}.${extension}`;
  link.href = URL.createObjectURL(blob);
  link.click();
  // The browser reads the bytes after the click; some would cancel the download if the address were revoked at once.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** @param {boolean} withPoints @returns {Promise<void>} resolves once the PNG is offered */
export async function snapshot(withPoints) {
  const canvas = Object.assign(document.createElement('canvas'), frameSize());
  compose(context2d(canvas), withPoints);
  /** @type {Blob | null} */
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  if (!blob) throw new Error(`The browser could not write a PNG of ${canvas.width} × ${canvas.height} pixels.`);
  download(blob, 'png');
}

/** In order of preference: WebM if the browser writes it, MP4 for Safari. */
const FORMATS = ['video/webm;codecs=vp9', 'video/webm;codecs=vp8', 'video/webm', 'video/mp4'];
/** Sharp enough for points and lines at 640x480. */
const BITS_PER_SECOND = 4e6;

/** A recording in progress. */
export class Recording {
  #canvas = Object.assign(document.createElement('canvas'), frameSize());
  #context = context2d(this.#canvas);
  #recorder;
  /** @type {Blob[]} */
  #chunks = [];
  /** Recorded time in ms, and the time of the last start; pauses do not count. */
  #time = 0;
  #since = performance.now();

  /** Starts at once. @throws {Error} with a sentence, if the browser cannot record */
  constructor() {
    const format = globalThis.MediaRecorder && FORMATS.find((type) => MediaRecorder.isTypeSupported(type));
    if (!format) throw new Error('This browser cannot record; snapshots work.');
    compose(this.#context, true);
    this.#recorder = new MediaRecorder(this.#canvas.captureStream(), {
      mimeType: format,
      videoBitsPerSecond: BITS_PER_SECOND,
    });
    this.#recorder.addEventListener('dataavailable', ({ data }) => this.#chunks.push(data));
    this.#recorder.start(1000);
  }

  /** Records what the stage shows now. */
  frame() {
    compose(this.#context, true);
  }

  get seconds() {
    const running = this.#recorder.state === 'recording' ? performance.now() - this.#since : 0;
    return (this.#time + running) / 1000;
  }

  /** @param {boolean} paused */
  pause(paused) {
    if (paused && this.#recorder.state === 'recording') {
      this.#time = this.seconds * 1000;
      this.#recorder.pause();
    } else if (!paused && this.#recorder.state === 'paused') {
      this.#since = performance.now();
      this.#recorder.resume();
    }
  }

  /** Ends the recording and offers the file. @returns {Promise<void>} */
  async end() {
    // If the encoder failed, the recorder has already stopped, and everything up to then is saved.
    if (this.#recorder.state !== 'inactive') {
      await new Promise((resolve) => {
        this.#recorder.addEventListener('stop', resolve, { once: true });
        this.#recorder.stop();
      });
    }
    for (const track of this.#recorder.stream.getTracks()) track.stop();
    const [type] = this.#recorder.mimeType.split(';');
    download(new Blob(this.#chunks, { type }), type === 'video/mp4' ? 'mp4' : 'webm');
  }
}
