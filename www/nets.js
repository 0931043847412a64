// The nets that the page can run: those deployed with it, and a visitor's own.
import { createDetector } from './pkg/index.js';
import { NETS } from './net-list.js';

/**
 * @typedef {object} Net
 * @property {string} id
 * @property {string} name
 * @property {string} about its size, speed and error, as far as they are known
 * @property {{ weightsUrl: URL } | { weights: Blob }} files
 * @property {boolean} own whether it may be a net for something other than faces
 */

/** In the order of the list; only those whose file is deployed are offered. */
const KNOWN = [
  { id: 'compact', path: 'pkg/weights/compact.safetensors', name: '15 points', measured: '1.4 ms, error 2.7 %' },
  { id: 'compact68', path: 'pkg/weights/compact68.safetensors', name: '68 points', measured: '1.5 ms, error 3.4 %' },
  { id: 'net2', path: 'weights/net2.safetensors', name: 'net2, as in the tutorial', measured: '2.0 ms, error 6.1 %' },
];

/** @type {Net[]} */
export const nets = KNOWN.filter(({ path }) => path in NETS).map(({ id, path, name, measured }) => ({
  ...{ id, name, own: false },
  about: [sizeOf(NETS[path].bytes), measured].filter(Boolean).join(', '),
  files: { weightsUrl: new URL(NETS[path].address, document.baseURI) },
}));

/** @param {number} bytes */
function sizeOf(bytes) {
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Whether a file is a net, by the ending of its name. @param {File} file */
export const isNet = (file) => file.name.endsWith('.safetensors');

/** A visitor's file. @param {File} file @returns {Net} */
export const netOfFile = (file) => ({
  id: 'own',
  name: file.name,
  about: sizeOf(file.size),
  files: { weights: file },
  own: true,
});

/**
 * The net of `?weights=...`, an address of the page's own origin.
 * @returns {Net | null} null if there is none
 * @throws {Error} with a sentence
 */
export function netOfAddress() {
  const given = new URLSearchParams(location.search).get('weights');
  if (!given) return null;
  const weightsUrl = URL.parse ? URL.parse(given, document.baseURI) : new URL(given, document.baseURI);
  if (weightsUrl?.origin !== location.origin)
    throw new Error(`?weights= takes an address of this page's own origin; ${given} is none.`);
  return {
    id: 'own',
    name: weightsUrl.pathname.split('/').at(-1) ?? given,
    about: '',
    files: { weightsUrl },
    own: true,
  };
}

/** Words in keypoint names that show that a net is for faces; the finder would never find anything else. */
const OF_FACES = /eye|nose|mouth|lip|brow|chin/i;
/** A net with this many keypoints counts as one for faces, whatever their names. */
const DENSE = 68;

/**
 * A detector of this net. If the net is not for faces, there is no finder, and it looks at the guide square.
 * @param {Net} net
 * @param {import('./pkg/index.js').DetectorOptions} options
 * @returns {Promise<{ detector: import('./pkg/index.js').FaceDetector, finder: boolean }>}
 * @throws {Error} with a sentence that names the file
 */
export async function loadNet(net, options) {
  try {
    const detector = await createDetector({ ...net.files, ...options });
    const { keypoints } = detector.info.schema;
    if (!net.own || keypoints.length === DENSE || keypoints.some((name) => OF_FACES.test(name)))
      return { detector, finder: true };
    detector.close();
    return { detector: await createDetector({ ...net.files, ...options, finderUrl: false }), finder: false };
  } catch (error) {
    if (net.own && error instanceof Error && !error.message.includes(net.name)) {
      throw new Error(`${net.name} cannot be used: ${error.message.replace(/^The weights cannot be used: /, '')}`, {
        cause: error,
      });
    }
    throw error;
  }
}
