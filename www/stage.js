// The stage: the frame that was looked at last, and what was found in it, drawn sharp at the screen's own resolution.
// Frame and points are shown together, so that a point always lies on the picture it was found in.
import { byId, context2d, html } from './dom.js';
import { drawFaces } from './draw.js';
import { settings } from './settings.js';

/** @typedef {import('./pkg/index.js').Face} Face */

const stage = html('stage');
const picture = byId('picture', HTMLCanvasElement);
const overlay = byId('overlay', HTMLCanvasElement);
const guide = byId('guide', SVGSVGElement);

/** @type {Face[]} */
let faces = [];
/** @type {[number, number][]} */
let edges = [];
let mirrored = false;

/**
 * Shows a frame and what was found in it.
 * @param {HTMLCanvasElement} frame
 * @param {Face[]} found in pixels of the frame
 * @param {[number, number][]} lines pairs of keypoints to join
 * @param {boolean} mirror
 */
export function show(frame, found, lines, mirror) {
  [faces, edges, mirrored] = [found, lines, mirror];
  if (picture.width !== frame.width || picture.height !== frame.height) {
    Object.assign(picture, { width: frame.width, height: frame.height });
    const [x, y, short] = [frame.width / 2, frame.height / 2, Math.min(frame.width, frame.height)];
    guide.setAttribute('viewBox', `0 0 ${frame.width} ${frame.height}`);
    const oval = Object.entries({ cx: x, cy: y, rx: 0.29 * short, ry: 0.37 * short });
    for (const [name, value] of oval) guide.firstElementChild?.setAttribute(name, String(value));
  }
  context2d(picture, { alpha: false }).drawImage(frame, 0, 0);
  picture.hidden = false;
  stage.classList.toggle('mirrored', mirrored);
  stage.classList.toggle('found', faces.length > 0);
  redraw();
}

/** Draws the points again, for other settings or another size of the stage. */
export function redraw() {
  const context = context2d(overlay);
  context.clearRect(0, 0, overlay.width, overlay.height);
  if (picture.hidden) return;
  const scale = Math.min(overlay.width / picture.width, overlay.height / picture.height);
  drawFaces(context, faces, edges, {
    x: (overlay.width - picture.width * scale) / 2,
    y: (overlay.height - picture.height * scale) / 2,
    scale,
    width: picture.width,
    mirrored,
    pixel: devicePixelRatio || 1,
  }, settings);
}

/** Takes the picture off the stage. */
export function clear() {
  faces = [];
  picture.hidden = true;
  // The last picture must not stay in memory: it may be of a person.
  picture.width = picture.height = 1;
  stage.classList.remove('found', 'mirrored');
  redraw();
}

/**
 * Draws what the stage shows on another canvas, in the frame's own resolution or to fit.
 * @param {CanvasRenderingContext2D} context
 * @param {boolean} withPoints
 */
export function compose(context, withPoints) {
  const { width, height } = context.canvas;
  const scale = Math.min(width / picture.width, height / picture.height);
  const [x, y] = [(width - picture.width * scale) / 2, (height - picture.height * scale) / 2];
  context.resetTransform();
  context.clearRect(0, 0, width, height);
  context.setTransform(mirrored ? -scale : scale, 0, 0, scale, mirrored ? width - x : x, y);
  context.drawImage(picture, 0, 0);
  context.resetTransform();
  // Letters as large, in the picture, as on a screen that shows it 800 pixels wide.
  const view = { x, y, scale, width: picture.width, mirrored, pixel: Math.max(1, width / 800) };
  if (withPoints) drawFaces(context, faces, edges, view, settings);
}

/** @returns {{ width: number, height: number }} of the frame that is shown */
export const frameSize = () => ({ width: picture.width, height: picture.height });

new ResizeObserver(() => {
  const ratio = devicePixelRatio || 1;
  overlay.width = Math.round(stage.clientWidth * ratio);
  overlay.height = Math.round(stage.clientHeight * ratio);
  redraw();
}).observe(stage);
