// The look of <face-keypoints>: its shadow tree's style and parts, and the style of the drawing.

// A constructed sheet, not a <style>, because a strict content security policy lets it through.
const CSS = `
:host { display: block; position: relative; overflow: hidden; aspect-ratio: var(--face-keypoints-aspect-ratio, 4 / 3);
  background: var(--face-keypoints-background, #e9ecef); color: var(--face-keypoints-color, #1c2126);
  font: var(--face-keypoints-font, 1rem/1.4 system-ui, sans-serif); }
:host([hidden]) { display: none; }
video, canvas { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
canvas { pointer-events: none; }
:host([mirror]) :is(video, canvas) { transform: scaleX(-1); }
.front { position: absolute; inset: 0; display: flex; flex-direction: column; align-items: center; justify-content: center;
  gap: 0.75em; padding: 1em; box-sizing: border-box; text-align: center; }
.front p { margin: 0; max-width: 34em; }
button { font: inherit; padding: 0.5em 1.2em; border: 0; border-radius: 0.5em; cursor: pointer;
  background: var(--face-keypoints-accent, #0a6b4b); color: var(--face-keypoints-accent-color, #fff); }
button:focus-visible { outline: 3px solid currentColor; outline-offset: 2px; }
.running button { display: none; }
.running p { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
@media (prefers-color-scheme: dark) {
  :host { background: var(--face-keypoints-background, #14181c); color: var(--face-keypoints-color, #e8eaed); }
  button { background: var(--face-keypoints-accent, #35d49a); color: var(--face-keypoints-accent-color, #06281b); }
}
`;

/** One sheet for each document in which an element has been, because a sheet belongs to its document. @type {WeakMap<Document, CSSStyleSheet>} */
const sheets = new WeakMap();

/** @param {ShadowRoot} root receives the sheet of its document */
export function dress(root) {
  const { ownerDocument } = root;
  try {
    let sheet = sheets.get(ownerDocument);
    if (!sheet) {
      sheet = new /** @type {typeof globalThis} */ (ownerDocument.defaultView ?? globalThis).CSSStyleSheet();
      sheet.replaceSync(CSS);
      sheets.set(ownerDocument, sheet);
    }
    root.adoptedStyleSheets = [sheet];
  } catch {
    // A DOM without constructed sheets, such as those of test runners.
    if (!root.querySelector('style')) append(root, 'style', {}).textContent = CSS;
  }
}

/**
 * Appends an element. Does not use innerHTML, which a policy that demands trusted types refuses.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {Node} parent
 * @param {T} tag
 * @param {Record<string, string>} attributes
 * @returns {HTMLElementTagNameMap[T]}
 */
export function append(parent, tag, attributes) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.appendChild(element);
  return element;
}

/** Milliseconds for which the drawing's style is cached, because reading it costs a style pass. */
const KEEP_STYLE = 500;

/**
 * Reads the custom properties that the drawing uses.
 * @param {Element} element
 */
export function styleOf(element) {
  let style = { point: '', edge: '', size: 0 };
  let until = -Infinity;
  return () => {
    const now = performance.now();
    if (until >= now) return style;
    const all = getComputedStyle(element);
    const read = (/** @type {string} */ name) => all.getPropertyValue(`--face-keypoints-${name}`).trim();
    until = now + KEEP_STYLE;
    style = {
      point: read('point') || '#3df5a6',
      edge: read('edge') || 'rgb(61 245 166 / 0.6)',
      size: Number(read('point-size')) || 0.012,
    };
    return style;
  };
}
