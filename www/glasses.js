// Glasses on every face, in CSS 3D alone: each pair is a few boxes, placed by `pose.matrix`, which maps the head to the picture in the form
// that `matrix3d()` takes. An example of the use of that matrix.
import { html } from './dom.js';

/** @typedef {import('./pkg/index.js').Face} Face */
/** @typedef {import('./pkg/draw.js').View} View */

/** The width of a face in style.css, in pixels. */
const UNIT = 200;
const PARTS = ['lens right', 'lens left', 'bridge', 'arm right', 'arm left'];

const rack = html('glasses');

/** @param {Face[]} faces of the picture that the stage shows @param {View} view where the picture lies on the stage, in pixels of the page */
export function wear(faces, view) {
  const heads = faces.flatMap(({ pose }) => pose ?? []);
  while (rack.childElementCount < heads.length) rack.append(pair());
  const side = view.mirrored ? -1 : 1;
  const left = view.mirrored ? view.x + view.width * view.scale : view.x;
  // Pixel (0, 0) has its centre at (0, 0); the page has its corner there.
  const place = `matrix(${side * view.scale}, 0, 0, ${view.scale}, ${left}, ${view.y}) translate(0.5px, 0.5px)`;
  for (const [n, element] of [...rack.children].entries()) {
    const glasses = /** @type {HTMLElement} */ (element);
    const hidden = n >= heads.length;
    if (glasses.hidden !== hidden) glasses.hidden = hidden;
    if (!hidden)
      glasses.style.transform = `${place} matrix3d(${heads[n].matrix}) scale3d(${1 / UNIT}, ${1 / UNIT}, ${1 / UNIT})`;
  }
}

function pair() {
  const glasses = document.createElement('div');
  for (const name of PARTS) glasses.appendChild(document.createElement('i')).className = name;
  return glasses;
}
