// The visitor's choices: kept in this browser, bound to the controls with `data-setting`.

/** Largest number of faces that the package tracks. */
export const MAX_FACES = 4;
/** The slider's steps, with the strengths that the package takes: 1 is its default, 0 is off. */
export const SMOOTHING = [
  { name: 'off', strength: 0 },
  { name: 'light', strength: 0.5 },
  { name: 'medium', strength: 1 },
  { name: 'strong', strength: 2.5 },
];
/** theme.js reads this key too. */
const KEY = 'face96';

const defaults = {
  /** 'light' or 'dark'; '' follows the system */
  theme: '',
  /** deviceId; '' for the browser's choice */
  camera: '',
  /** one of the nets deployed with the page */
  net: 'compact',
  mirror: true,
  faces: 1,
  /** index into SMOOTHING */
  smoothing: 2,
  points: true,
  lines: true,
  labels: false,
  boxes: false,
  crop: true,
  colours: true,
  glasses: false,
  shortcuts: true,
  snapshotPoints: true,
};

/** @typedef {typeof defaults} Settings */

/** @type {Settings} */
export const settings = load();

/** Stored values of the right type and range; otherwise the default. */
function load() {
  /** @type {Record<string, unknown>} */
  let kept = {};
  try {
    kept = Object(JSON.parse(localStorage.getItem(KEY) ?? '{}'));
  } catch {
    // If storage is switched off or holds something else, the defaults apply.
  }
  /** @type {Record<string, unknown>} */
  const all = { ...defaults };
  for (const [name, value] of Object.entries(defaults)) if (typeof kept[name] === typeof value) all[name] = kept[name];
  const settings = /** @type {Settings} */ (all);
  if (!(Number.isInteger(settings.faces) && settings.faces >= 1 && settings.faces <= MAX_FACES))
    settings.faces = defaults.faces;
  if (!(settings.smoothing in SMOOTHING)) settings.smoothing = defaults.smoothing;
  return settings;
}

/** @type {((name: keyof Settings) => void)[]} */
const listeners = [];

/** @param {(name: keyof Settings) => void} listener receives the name of each setting that changes */
export const onSetting = (listener) => void listeners.push(listener);

/**
 * @template {keyof Settings} N
 * @param {N} name
 * @param {Settings[N]} value
 */
export function set(name, value) {
  settings[name] = value;
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // The setting then lasts as long as the page.
  }
  for (const control of controls(name)) write(control, value);
  for (const listener of listeners) listener(name);
}

/** @param {string} name @returns {NodeListOf<HTMLInputElement>} */
const controls = (name) => document.querySelectorAll(`[data-setting="${name}"]`);

/** @param {HTMLInputElement} control @param {unknown} value */
function write(control, value) {
  if (control.type === 'checkbox') control.checked = value === true;
  else if (control.type === 'radio') control.checked = control.value === String(value);
  else control.value = String(value);
}

/** Shows the settings in their controls, and updates them when a control changes. */
export function bindControls() {
  for (const name of /** @type {(keyof Settings)[]} */ (Object.keys(settings))) {
    for (const control of controls(name)) {
      write(control, settings[name]);
      control.addEventListener('input', () => {
        const value = control.type === 'checkbox' ? control.checked : Number(control.value);
        set(name, /** @type {never} */ (value));
      });
    }
  }
}
