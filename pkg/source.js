// The sources of detect(): tells their kinds apart, says what is wrong with one, and takes its frame.
import { Face96Error, asFace96Error } from './errors.js';

/**
 * Raw pixels, row after row from the top left: RGBA, RGB or grey, according to the length of `data`.
 * @typedef {{ data: Uint8Array | Uint8ClampedArray, width: number, height: number }} Pixels
 */

/**
 * Blobs, files and addresses are pictures in a format that the browser reads; addresses are of the page's own origin.
 * @typedef {HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas | HTMLImageElement | ImageData | ImageBitmap | VideoPicture
 *   | Pixels | Blob | string | URL} FrameSource
 */

/** VideoFrame, under a name that older versions of TypeScript also know.
 * @typedef {typeof globalThis extends { VideoFrame: { prototype: infer F } } ? F : never} VideoPicture */

/** A grey picture, one byte per pixel. @typedef {{ luma: Uint8Array, width: number, height: number }} Grey */
/** The input of the engine. @typedef {ImageBitmap | VideoPicture | Grey} Frame */

/** The name of an object's class. `instanceof` would not recognise an element of another window. @param {unknown} value */
export const kindOf = (value) => Object.prototype.toString.call(value).slice(8, -1);

/** Arguments that a page may pass by mistake, with what to do instead. @type {Record<string, string>} */
const INSTEAD = {
  MediaStream: 'play it in a video element and pass that',
  CanvasCaptureMediaStream: 'play it in a video element and pass that', // Firefox's name for a canvas's stream
  MediaStreamTrack: 'play it in a video element and pass that',
  ArrayBuffer: 'pass encoded pictures as a Blob, raw pixels as { data, width, height }',
  Uint8Array: 'pass encoded pictures as a Blob, raw pixels as { data, width, height }',
  Promise: 'await it first',
  Response: 'pass its blob()',
  FileList: 'pass one of its files',
};

/** Possible bytes per pixel of raw pixels. */
const CHANNELS = [1, 3, 4];
/** Canvases decode pictures and scale them; a server has none. */
const hasCanvas = () =>
  typeof createImageBitmap === 'function' && (typeof OffscreenCanvas === 'function' || !!globalThis.document);
/** The base of relative addresses. */
export const base = () => globalThis.document?.baseURI ?? globalThis.location?.href ?? import.meta.url;

/** @param {string} why */
const unreadable = (why, cause = /** @type {unknown} */ (undefined)) => new Face96Error('bad-frame', why, { cause });

/**
 * Checks that a source can be looked at now.
 * @param {FrameSource} source
 * @throws {Face96Error} `bad-option` for a value that is no source at all, `bad-frame` for a source that will never have a picture,
 *   `empty-frame` for one that has none yet
 */
export function checkSource(source) {
  const s = /** @type {any} */ (source);
  const kind = kindOf(source);
  const shape = (/** @type {number} */ width, /** @type {number} */ height) => {
    if (!width || !height)
      throw new Face96Error('empty-frame', `The frame is ${width}x${height} pixels: there is no picture yet.`);
  };
  switch (kind) {
    case 'HTMLVideoElement':
      if (s.error) throw unreadable(`The video cannot be played${s.error.message ? `: ${s.error.message}` : ''}.`);
      // HAVE_CURRENT_DATA: before that, a video may know its size and still have no picture.
      return s.readyState < 2 ? shape(0, 0) : shape(s.videoWidth, s.videoHeight);
    case 'HTMLImageElement':
      if (s.complete && !s.naturalWidth && (s.currentSrc || s.getAttribute('src'))) {
        throw unreadable(`The image ${s.currentSrc || s.src} is broken, or has no size of its own.`);
      }
      return shape(s.naturalWidth, s.naturalHeight);
    case 'HTMLCanvasElement':
    case 'OffscreenCanvas':
      return shape(s.width, s.height);
    case 'VideoFrame':
      if (!s.displayWidth) throw unreadable('The VideoFrame is closed.');
      return;
    case 'ImageBitmap':
      if (!s.width) throw unreadable('The ImageBitmap is closed.');
      return;
    case 'ImageData':
      return;
    case 'Blob':
    case 'File':
      if (!s.size) throw unreadable(`${s.name || `The ${kind}`} is empty.`);
      return;
    case 'String':
    case 'URL':
      return void addressOf(s);
  }
  if (typeof s?.width === 'number' && typeof s.height === 'number' && 'data' in s) return checkPixels(s);
  const found = s === null || s === undefined ? String(s) : describe(s, kind);
  throw new Face96Error(
    'bad-option',
    `detect() got ${found}; expected a video, canvas, image, ImageData, ImageBitmap, VideoFrame, Blob, File, address or { data, width, height }.`,
  );
}

/** @param {any} value @param {string} kind @returns {string} a description of the value, with a hint if there is one */
function describe(value, kind) {
  // Wrappers in which frameworks keep an element: { current } of React, { value } of Vue.
  const held = ['current', 'value'].find((name) => kind === 'Object' && name in value);
  const hint = held ? `a reference whose element is its .${held}` : INSTEAD[kind];
  const named =
    typeof value === 'object' || typeof value === 'function'
      ? `${/^[AEIOU]/.test(kind) ? 'an' : 'a'} ${kind}`
      : `the ${typeof value} ${String(value)}`;
  return hint ? `${named} (${hint})` : named;
}

/** @param {Pixels} pixels @returns {number} bytes per pixel */
function checkPixels({ data, width, height }) {
  const channels = data?.length / (width * height);
  const bytes = ['Uint8Array', 'Uint8ClampedArray'].includes(kindOf(data));
  if (
    bytes &&
    Number.isInteger(width) &&
    Number.isInteger(height) &&
    width > 0 &&
    height > 0 &&
    CHANNELS.includes(channels)
  )
    return channels;
  throw new Face96Error(
    'bad-option',
    `Raw pixels of ${width}x${height} have ${bytes ? `${data.length} bytes` : `data of kind ${kindOf(data)}`}; ` +
      'expected whole numbers above 0 and a Uint8Array of 1, 3 or 4 bytes a pixel.',
  );
}

/** @param {string | URL} address @returns {URL} @throws {Face96Error} if it is not an address, or of another origin */
function addressOf(address) {
  let url;
  try {
    url = new URL(address, base());
  } catch (error) {
    throw new Face96Error('bad-option', `'${address}' is no address.`, { cause: error });
  }
  // An opaque origin, that of a sandboxed frame, equals no other.
  if (url.protocol !== 'data:' && url.origin !== globalThis.location?.origin) {
    throw unreadable(`${url.href} is from another origin; only addresses of the page's own origin are read.`);
  }
  return url;
}

/** Whether a source cannot change after the call, so that its frame can be taken when its turn comes. @param {FrameSource} source */
export const keeps = (source) => ['Blob', 'File', 'String', 'URL'].includes(kindOf(source));

/**
 * The time of a frame that belongs to a stream, in seconds; null for a still picture.
 * @param {FrameSource} source
 * @returns {number | null}
 */
export function streamTime(source) {
  const s = /** @type {any} */ (source);
  if (kindOf(source) === 'VideoFrame') return s.timestamp / 1e6;
  if (kindOf(source) === 'HTMLVideoElement') return s.srcObject ? performance.now() / 1000 : s.currentTime;
  return null;
}

/**
 * Takes the frame that a source shows now. The frame belongs to the caller, who passes it to {@link release}.
 *
 * If VideoFrame is supported, a video's frame is taken as one: that copies nothing, while a bitmap of 640x480 takes the page's
 * thread 2 ms; its pixels become RGB where they are drawn, in the worker.
 * @param {FrameSource} source
 * @returns {Promise<Frame>}
 * @throws {Face96Error} `bad-frame`
 */
export async function takeFrame(source) {
  const s = /** @type {any} */ (source);
  const kind = kindOf(source);
  try {
    if (kind === 'VideoFrame') return s.clone();
    if (kind === 'HTMLVideoElement' && typeof VideoFrame === 'function') {
      try {
        return new VideoFrame(s);
      } catch {
        // Try a bitmap instead; if that fails as well, its reason is reported.
      }
    }
    if (kind === 'String' || kind === 'URL') return await decode(await fetchBlob(addressOf(s)));
    if (kind === 'Blob' || kind === 'File') return await decode(s);
    if ('data' in s && !(kind === 'ImageData' && hasCanvas())) return greyOf(s);
    return await createImageBitmap(s);
  } catch (error) {
    if (error instanceof Face96Error) throw error;
    throw unreadable(`The frame cannot be read: ${asFace96Error(error, 'bad-frame').message}`, error);
  }
}

/** Frees a frame's memory. @param {Frame} frame */
export function release(frame) {
  if ('close' in frame) frame.close();
}

/** @param {Frame} frame @returns {{ width: number, height: number }} */
export const sizeOf = (frame) =>
  'displayWidth' in frame
    ? { width: frame.displayWidth, height: frame.displayHeight }
    : { width: frame.width, height: frame.height };

/** The grey values of raw pixels, as `luma` in src/picture.rs computes them. Transparent pixels are black, as on the canvas. @param {Pixels} pixels @returns {Grey} */
function greyOf(pixels) {
  const { data, width, height } = pixels;
  const channels = checkPixels(pixels);
  if (channels === 1) return { luma: Uint8Array.from(data), width, height };
  const luma = new Uint8Array(width * height);
  for (let p = 0, at = 0; p < luma.length; p++, at += channels) {
    const grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
    luma[p] = (channels === 4 ? (grey * data[at + 3]) / 255 : grey) + 0.5;
  }
  return { luma, width, height };
}

/** @param {URL} url @returns {Promise<Blob>} */
async function fetchBlob(url) {
  // Decoded here, because a policy of connect-src 'self' does not let a page fetch a data: address.
  if (url.protocol === 'data:') {
    const [, type, base64, text] = url.href.match(/^data:([^,]*?)(;base64)?,(.*)$/s) ?? [];
    const plain = decodeURIComponent(text);
    return new Blob([base64 ? Uint8Array.from(atob(plain), (c) => c.charCodeAt(0)) : plain], { type });
  }
  const response = await fetch(url, { mode: 'same-origin' });
  if (!response.ok) throw unreadable(`Could not fetch ${url.href}: the server answered ${response.status}.`);
  return response.blob();
}

/** @param {Blob} blob @returns {Promise<ImageBitmap>} */
async function decode(blob) {
  const name = /** @type {{ name?: string }} */ (blob).name || `The ${blob.type || 'picture'}`;
  if (!hasCanvas()) throw unreadable(`${name} cannot be decoded here: pass its pixels as { data, width, height }.`);
  try {
    return await (blob.type.startsWith('image/svg') && globalThis.document
      ? decodeByElement(blob)
      : createImageBitmap(blob));
  } catch (error) {
    const why = (await isHeic(blob))
      ? 'HEIC, which this browser does not read; save it as JPEG, PNG or WebP'
      : 'damaged, or no picture of a kind that this browser reads';
    throw unreadable(`${name} is ${why}.`, error);
  }
}

/** Only an element can read an SVG. @param {Blob} blob */
async function decodeByElement(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
    return await createImageBitmap(image);
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

/** Whether a file's first bytes are those of HEIC, the format of Apple's cameras that most browsers do not read. @param {Blob} blob @returns {Promise<boolean>} */
export async function isHeic(blob) {
  const head = String.fromCharCode(...new Uint8Array(await blob.slice(4, 12).arrayBuffer()));
  return /^ftyp(hei[cfmsx]|hev[cmsx]|mif1|msf1)/.test(head);
}
