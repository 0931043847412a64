// Opens the camera, with a code and a sentence for each way that this can fail. Importing this file does nothing.
import { Face96Error } from './errors.js';
import { kindOf } from './source.js';

/** @typedef {import('./errors.js').ErrorCode} ErrorCode */

/**
 * Each fault with the names that browsers give it.
 * @type {[ErrorCode, string, string[]][]}
 */
const FAULTS = [
  // SecurityError: the permissions policy of a page that embeds this one.
  [
    'camera-denied',
    'The camera was denied; allow it for this page in your browser and start again.',
    ['NotAllowedError', 'SecurityError'],
  ],
  ['camera-missing', 'No camera was found; connect one and start again.', ['NotFoundError']],
  [
    'camera-in-use',
    'The camera is in use by another program; close that program and start again.',
    ['NotReadableError'],
  ],
  ['camera-size', 'No camera fits what was asked for; try another camera.', ['OverconstrainedError']],
  ['camera-failed', 'The camera stopped while it was starting; start again.', ['AbortError']],
  ['camera-unplugged', 'The camera was unplugged or taken away; connect it and start again.', []],
  ['camera-insecure', 'The camera needs a secure page: open this one by https or on localhost.', []],
  ['camera-unsupported', 'This browser gives pages no camera; try a current Firefox, Chrome, Edge or Safari.', []],
];

/** @param {ErrorCode} code @param {unknown} [cause] */
function fault(code, cause) {
  const [, sentence] = FAULTS.find((f) => f[0] === code) ?? FAULTS[0];
  return new Face96Error(code, sentence, { cause });
}

/** @param {unknown} error */
function named(error) {
  const name = error instanceof Error ? error.name : '';
  const known = FAULTS.find((f) => f[2].includes(name));
  if (known) return fault(known[0], error);
  const why = error instanceof Error ? error.message : String(error);
  return new Face96Error('camera-failed', `The camera did not start: ${why.replace(/\.?$/, '.')}`, { cause: error });
}

/**
 * @typedef {object} Camera
 * @property {MediaStream} stream
 * @property {Promise<never>} ended rejects with `camera-unplugged` when the camera goes away by itself
 * @property {() => void} close switches it off
 */

/**
 * Opens the user's camera in a video element and plays it. Call it on a user's gesture, because browsers ask for permission.
 * @param {HTMLVideoElement} video should have `playsinline` and `muted`
 * @param {object} [options]
 * @param {string} [options.deviceId] which camera (see {@link listCameras}); default: the one that faces the user
 * @param {number} [options.width] preferred width in pixels. Default 640
 * @param {number} [options.height] preferred height in pixels. Default 480
 * @param {AbortSignal} [options.signal] aborting it switches the camera off
 * @returns {Promise<Camera>}
 * @throws {Face96Error} a code that begins with `camera-`, `bad-option` or `aborted`
 */
export async function openCamera(video, { deviceId, width = 640, height = 480, signal } = {}) {
  const aborted = () => new Face96Error('aborted', 'Starting the camera was aborted.');
  if (kindOf(video) !== 'HTMLVideoElement') {
    throw new Face96Error(
      'bad-option',
      `openCamera() got ${video === null || video === undefined ? video : kindOf(video)}; expected a video element.`,
    );
  }
  if (signal?.aborted) throw aborted();
  if (!globalThis.isSecureContext) throw fault('camera-insecure');
  if (!navigator.mediaDevices?.getUserMedia) throw fault('camera-unsupported');
  const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: 'user' };
  /** @type {MediaStream} */
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { width: { ideal: width }, height: { ideal: height }, ...which },
    });
  } catch (error) {
    throw signal?.aborted ? aborted() : named(error);
  }
  const closed = new AbortController();
  const close = () => {
    closed.abort();
    for (const track of stream.getTracks()) track.stop();
    if (video.srcObject === stream) video.srcObject = null;
  };
  signal?.addEventListener('abort', close, { signal: closed.signal });
  /** @type {Promise<never>} */
  const ended = new Promise((_, reject) => {
    const unplugged = () => {
      // Either the track or the video reports it, not both in every browser. The video may also report the previous camera.
      if (stream.active) return;
      close();
      reject(fault('camera-unplugged'));
    };
    for (const target of [...stream.getTracks(), video])
      target.addEventListener('ended', unplugged, { signal: closed.signal });
  });
  ended.catch(() => {}); // may reject before anyone waits for it
  try {
    if (signal?.aborted) throw aborted();
    video.srcObject = stream;
    await Promise.race([video.play(), ended]);
  } catch (error) {
    close();
    if (signal?.aborted) throw aborted();
    throw error instanceof Face96Error ? error : named(error);
  }
  return { stream, ended, close };
}

/**
 * The available cameras. Their labels are empty until the user has allowed one.
 * @returns {Promise<{ deviceId: string, label: string }[]>}
 */
export async function listCameras() {
  const devices = (await globalThis.navigator?.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((d) => d.kind === 'videoinput').map(({ deviceId, label }) => ({ deviceId, label }));
}
