// Small helpers around the document.

/**
 * The element with this id, checked to be of the expected kind.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`#${id} is no ${kind.name}`);
  return element;
}

/** @param {string} id */
export const html = (id) => byId(id, HTMLElement);
/** @param {string} id */
export const button = (id) => byId(id, HTMLButtonElement);

/**
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {CanvasRenderingContext2DSettings} [options]
 * @returns {CanvasRenderingContext2D} or that of an OffscreenCanvas, which has everything that is used here
 */
export function context2d(canvas, options) {
  const context = canvas.getContext('2d', options);
  if (!context) throw new Error('this browser gave no 2D canvas');
  return /** @type {CanvasRenderingContext2D} */ (context);
}

/**
 * Writes a text only if it differs, because the browser lays out written text anew and a screen reader reads it again.
 * @param {Element} element
 * @param {string} text
 */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
