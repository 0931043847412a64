// The readings of the faces: their numbers, poses, expressions and recent events.
import { byId, html, write } from './dom.js';
import { settings } from './settings.js';

/** @typedef {import('./pkg/index.js').Face} Face */

/** Number of recent events that are shown, and their names. */
const HAPPENED = 5;
const WORDS = {
  blink: 'blink',
  mouthopen: 'mouth opened',
  mouthclose: 'mouth closed',
  nod: 'nod',
  shake: 'head shaken',
};

/** The page's number of each tracked face, by the detector's: the lowest free one, since visitors count from 1.
 * @type {Map<number, number>} */
let numbers = new Map();
/** Recent events, the newest last. @type {string[]} */
let happened = [];
const NOTHING_HAPPENED = 'Blinks, nods and an opened mouth are told here.';

/** Replaces the track numbers of faces by the page's own. @param {Face[]} faces @returns {Face[]} */
export function numbered(faces) {
  const kept = new Map();
  for (const { trackId } of faces) if (trackId && numbers.has(trackId)) kept.set(trackId, numbers.get(trackId));
  const taken = new Set(kept.values());
  for (const { trackId } of faces) {
    if (!trackId || kept.has(trackId)) continue;
    let free = 1;
    while (taken.has(free)) free++;
    taken.add(free);
    kept.set(trackId, free);
  }
  numbers = kept;
  return faces.map((face) => ({ ...face, trackId: kept.get(face.trackId) ?? null }));
}

/** Forgets the faces and events of an earlier source. */
export function clear() {
  numbers = new Map();
  happened = [];
}

/** Remembers what happened in a frame. @param {Face[]} faces */
export function note(faces) {
  for (const { trackId, events } of faces)
    for (const event of events) happened.push(`${WORDS[event]}${settings.faces > 1 ? ` (${trackId})` : ''}`);
  happened.splice(0, happened.length - HAPPENED);
}

/** Shows poses, expressions and recent events. @param {Face[]} faces */
export function show(faces) {
  const degrees = (/** @type {number | undefined} */ radians) =>
    radians === undefined ? '–' : `${Math.round((radians * 180) / Math.PI)}°`.replace('-', '−');
  const percent = (/** @type {number | null | undefined} */ value) =>
    value === null || value === undefined ? '–' : String(Math.round(100 * value));
  const number = (/** @type {Face} */ { trackId }, /** @type {number} */ n) => String(trackId ?? n + 1);
  const poses = faces.map((face, n) => {
    const { pose, mouthOpen } = face;
    return [
      number(face, n),
      degrees(pose?.yaw),
      degrees(pose?.pitch),
      degrees(pose?.roll),
      mouthOpen?.toFixed(2) ?? '–',
    ];
  });
  const expressions = faces.map((face, n) => {
    const { eyes, mouth, brows } = face;
    const raised = brows.left && brows.right ? (brows.left.raise + brows.right.raise) / 2 : null;
    return [
      number(face, n),
      percent(eyes.left?.open),
      percent(eyes.right?.open),
      percent(mouth?.open),
      percent(mouth?.wide),
      percent(raised),
    ];
  });
  fill(byId('poses', HTMLTableSectionElement), poses, 5);
  fill(byId('expressions', HTMLTableSectionElement), expressions, 6);
  write(html('happened'), happened.length ? `Lately: ${happened.join(', ')}.` : NOTHING_HAPPENED);
}

/**
 * @param {HTMLTableSectionElement} body
 * @param {string[][]} rows
 * @param {number} columns
 */
function fill(body, rows, columns) {
  // As many rows as faces can be tracked, so that nothing jumps when one appears or disappears.
  while (rows.length < settings.faces) rows.push(Array(columns).fill('–'));
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, r) => {
    const line = body.rows[r] ?? body.insertRow();
    row.forEach((text, c) => write(line.cells[c] ?? line.insertCell(), text));
  });
}
