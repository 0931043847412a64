// Writes www/offline-files.js: every file of the page by its address, with the SHA-256 of its bytes, for the service worker; and
// www/net-list.js: the nets deployed with the page, with their sizes, so that the page offers them without a request.
//   node tools/offline-files.js [FOLDER that holds www and pkg]
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PROBE } from '../pkg/simd.js';

/** The two builds, without relaxed-simd and with it; a browser loads one of them. */
export const WASM = ['pkg/dist/plain.js', 'pkg/dist/face96_relaxed_bg.wasm'];

/** The nets with which the page starts; the others are loaded, and kept, when a visitor chooses them. */
const FIRST = ['pkg/weights/compact.safetensors', 'pkg/weights/finder.safetensors'];

/** @param {string} root @param {string} folder @param {RegExp} kinds @returns {string[]} */
const list = (root, folder, kinds) =>
  existsSync(join(root, folder))
    ? readdirSync(join(root, folder))
        .filter((name) => kinds.test(name))
        .sort()
        .map((name) => `${folder}/${name}`)
    : [];
/** @param {string} path */
const addressOf = (path) => path.replace(/^www\//, '').replace(/^index\.html$/, './');

/**
 * Weights by their addresses.
 * @param {string} root folder that holds www and pkg
 * @returns {Map<string, string>}
 */
export function netFiles(root) {
  const all = ['pkg/weights', 'www/weights'].flatMap((folder) => list(root, folder, /\.safetensors$/));
  return new Map(all.map((path) => [addressOf(path), join(root, path)]));
}

/**
 * The files of the page by their addresses, which are relative to the page: www/ is its own folder, pkg/ lies in that.
 * @param {string} root folder that holds www and pkg
 * @returns {Map<string, string>}
 */
export function pageFiles(root) {
  // The larger icons are for installing the page, which happens online.
  const own = list(root, 'www', /\.(html|css|js|svg|webmanifest)$|^icon-192\.png$/).filter(
    (path) => !/(sw|offline-files)\.js$/.test(path),
  );
  // The page does not use the package in one file.
  const pkg = list(root, 'pkg', /\.js$/).filter((path) => !path.endsWith('inline.js'));
  return new Map(
    [...own, ...pkg, 'pkg/dist/face96.js', ...WASM, ...FIRST].map((path) => [addressOf(path), join(root, path)]),
  );
}

const hash = (/** @type {string} */ path) => createHash('sha256').update(readFileSync(path)).digest('hex');
const hashes = (/** @type {Map<string, string>} */ files) =>
  Object.fromEntries(Array.from(files, ([address, path]) => [address, hash(path)]));

/**
 * The text of offline-files.js.
 * @param {Map<string, string>} page files that are kept at once, by their addresses
 * @param {Map<string, string>} later files that are kept when they are requested
 * @param {string[]} wasm addresses of the two builds
 */
export const offlineList = (page, later, wasm) =>
  [
    '// Written by tools/offline-files.js; see sw.js.',
    `self.OFFLINE_FILES = ${JSON.stringify(hashes(page), null, 2)};`,
    `self.OFFLINE_LATER = ${JSON.stringify(hashes(later), null, 2)};`,
    `self.OFFLINE_WASM = ${JSON.stringify(wasm)};`,
    `self.RELAXED_SIMD_PROBE = ${JSON.stringify(PROBE)};\n`,
  ].join('\n');

/**
 * The text of net-list.js.
 * @param {Map<string, string>} nets
 * @param {(address: string) => string} [placed] where each file lies, if not at its address
 */
export function netList(nets, placed = (address) => address) {
  const entries = Array.from(nets, ([address, path]) => [
    address,
    { address: placed(address), bytes: statSync(path).size },
  ]);
  const type = '/** Address and size of each net. @type {Record<string, { address: string, bytes: number }>} */';
  return `// Written by tools/offline-files.js.\n${type}\nexport const NETS = ${JSON.stringify(Object.fromEntries(entries), null, 2)};\n`;
}

/** Writes both files. @param {string} root */
export function writeOfflineFiles(root) {
  const nets = netFiles(root);
  writeFileSync(join(root, 'www/net-list.js'), netList(nets));
  const page = pageFiles(root);
  const later = new Map([...nets].filter(([address]) => !page.has(address)));
  writeFileSync(join(root, 'www/offline-files.js'), offlineList(page, later, WASM));
}

const self = fileURLToPath(import.meta.url);
if (process.argv[1] === self) writeOfflineFiles(process.argv[2] ?? join(self, '../..'));
