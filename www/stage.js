// The stage: the latest processed frame, and its results over it, drawn sharply at the screen's own resolution.
//
// A video shows itself: the browser puts its frames on the screen without the page's thread, and a worker draws the points over them
// (start-painter.js). The points lag their frame by the time of the nets, and appear with the next refresh of the screen; a camera's frame
// stays for two of these or more. Painting each frame on a canvas together with its points showed both at once, but late, and
// cost the page's thread another 4 ms. Where points and frame must belong together, in snapshots and recordings, the frame is kept.
// Pictures that are not videos are painted.
import { byId, context2d, html } from './dom.js';
import { wear } from './glasses.js';
import { drawFaces, fit } from './pkg/draw.js';
import { guideBox } from './pkg/index.js';
import { MAX_FACES, settings } from './settings.js';
import { MAX_SIDE, release, sizeOf } from './sources.js';
import { startPainter } from './start-painter.js';

/** @typedef {import('./pkg/index.js').Face} Face */
/** @typedef {import('./sources.js').Picture} Picture */

const stage = html('stage');
const picture = byId('picture', HTMLCanvasElement);
const overlay = byId('overlay', HTMLCanvasElement);
const guide = byId('guide', SVGSVGElement);

/** The frame of the faces; null on an empty stage. @type {Picture | null} */
let frame = null;
let [width, height] = [0, 0];
/** @type {Face[]} */
let faces = [];
/** @type {[number, number][]} */
let edges = [];
let mirrored = false;
/** The stage's size in pixels of the screen. */
const screen = { width: 1, height: 1 };

// As long as there is no face, there is one empty crop.
const crops = Array.from({ length: MAX_FACES }, (_, n) =>
  Object.assign(document.createElement('canvas'), { hidden: n > 0 }),
);
html('crop-list').replaceChildren(...crops);
/** @type {Awaited<ReturnType<typeof startPainter>> | null} */
let painter = null;
startPainter(overlay, crops).then((started) => {
  painter = started;
  redraw();
  showCrops();
});
/** Whether the overlay shows anything. */
let drawn = false;

/**
 * Shows a frame and its results.
 * @param {Picture} next a VideoFrame belongs to the stage from now on; a canvas is copied, a video shows itself
 * @param {Face[]} found in pixels of the frame
 * @param {[number, number][]} lines pairs of keypoints to join
 * @param {boolean} mirror
 */
export function show(next, found, lines, mirror) {
  [faces, edges, mirrored] = [found, lines, mirror];
  const [w, h] = sizeOf(next);
  if (w !== width || h !== height) {
    [width, height] = [w, h];
    const [x, y, short] = [width / 2, height / 2, Math.min(width, height)];
    guide.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const oval = Object.entries({ cx: x, cy: y, rx: 0.29 * short, ry: 0.37 * short });
    for (const [name, value] of oval) guide.firstElementChild?.setAttribute(name, String(value));
    // Pixel (0, 0) has its centre at (0, 0); a drawing has its corner there.
    const { size } = guideBox(width, height);
    const square = Object.entries({ x: x - size / 2, y: y - size / 2, width: size, height: size });
    for (const [name, value] of square) guide.lastElementChild?.setAttribute(name, String(value));
  }
  if (next instanceof HTMLCanvasElement) paint(next);
  else hold(next);
  mark('mirrored', mirrored);
  mark('found', faces.length > 0);
  redraw();
}

/** @param {string} name of a class of the stage @param {boolean} on */
function mark(name, on) {
  // Writing an unchanged class would cost a style pass with each frame.
  if (stage.classList.contains(name) !== on) stage.classList.toggle(name, on);
}

/** Takes ownership of a frame, and releases the previous one. @param {Picture | null} next */
function hold(next) {
  if (frame !== next) release(frame);
  frame = next;
}

/** Copies a frame to the canvas in the stage, which covers the video. @param {Picture} source */
function paint(source) {
  if (picture.width !== width || picture.height !== height) Object.assign(picture, { width, height });
  context2d(picture, { alpha: false }).drawImage(source, 0, 0, width, height);
  picture.hidden = false;
  hold(picture);
}

/** Draws the points again, after a change of settings or of the stage's size. */
export function redraw() {
  const empty = !frame || !faces.length;
  if (empty && !drawn) return;
  drawn = !empty;
  const ratio = devicePixelRatio || 1;
  const view = fit({ width, height }, screen, { mirrored, pixel: ratio });
  wear(empty || !settings.glasses ? [] : faces, {
    ...view,
    x: view.x / ratio,
    y: view.y / ratio,
    scale: view.scale / ratio,
  });
  painter?.draw(empty ? null : { faces, options: drawOptions(view) });
}

/** The drawing options that the visitor has chosen. @param {import('./pkg/draw.js').View} view */
function drawOptions(view) {
  const { points, lines, labels, boxes, colours } = settings;
  return {
    view,
    edges,
    points,
    lines,
    labels,
    boxes,
    confidence: colours ? /** @type {const} */ ('colour') : undefined,
  };
}

/** Empties the stage. */
export function clear() {
  faces = [];
  // The last picture must not stay in memory, because it may show a person.
  hold(null);
  picture.hidden = true;
  picture.width = picture.height = 1;
  [width, height] = [0, 0];
  stage.classList.remove('found', 'mirrored');
  redraw();
  showCrops();
}

/** Keeps the last frame on the stage when its video ends. */
export function freeze() {
  if (frame) paint(frame);
}

/**
 * Draws the stage's picture on another canvas, to fit.
 * @param {CanvasRenderingContext2D} context
 * @param {boolean} withPoints
 */
export function compose(context, withPoints) {
  if (!frame) return;
  const { canvas } = context;
  // Letters in the picture are as large as on a screen that shows it 800 pixels wide.
  const view = fit({ width, height }, canvas, { mirrored, pixel: Math.max(1, canvas.width / 800) });
  const { x, y, scale } = view;
  context.resetTransform();
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(mirrored ? -scale : scale, 0, 0, scale, mirrored ? canvas.width - x : x, y);
  context.drawImage(frame, 0, 0, width, height);
  context.resetTransform();
  if (withPoints) drawFaces(context, faces, drawOptions(view));
}

/** @returns {{ width: number, height: number }} size of the frame shown, with no side longer than MAX_SIDE */
export function frameSize() {
  const scale = Math.max(1, Math.max(width, height) / MAX_SIDE);
  return { width: Math.round(width / scale), height: Math.round(height / scale) };
}

/** Shows the net's crop of each face on the stage, if it is known, otherwise an empty square. */
export function showCrops() {
  for (const [n, canvas] of crops.entries()) {
    const hidden = n >= Math.max(faces.length, 1);
    if (canvas.hidden !== hidden) canvas.hidden = hidden;
  }
  painter?.crop(faces.flatMap(({ crop }) => crop ?? []));
}

new ResizeObserver(() => {
  const ratio = devicePixelRatio || 1;
  Object.assign(screen, {
    width: Math.round(stage.clientWidth * ratio),
    height: Math.round(stage.clientHeight * ratio),
  });
  redraw();
}).observe(stage);
