// Writes www/offline-files.js: every file of the page by its address, with the SHA-256 of its bytes, for the service worker.
//   node tools/offline-files.js [FOLDER that holds www and pkg]
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PROBE } from '../pkg/simd.js';

/** The two builds, of which a browser takes one: without relaxed-simd, and with it. */
export const WASM = ['pkg/dist/face96_bg.wasm', 'pkg/dist/face96_relaxed_bg.wasm'];

/**
 * The files of the page by their addresses, which are relative to the page: www/ is its own folder, pkg/ lies in it.
 * @param {string} root folder that holds www and pkg
 * @returns {Map<string, string>}
 */
export function pageFiles(root) {
  const list = (folder, kinds) => readdirSync(join(root, folder)).filter((name) => kinds.test(name)).sort().map((name) => `${folder}/${name}`);
  // The larger icons are for installing the page, which is done online.
  const own = list('www', /\.(html|css|js|svg|webmanifest)$|^icon-192\.png$/).filter((path) => !/(sw|offline-files)\.js$/.test(path));
  const pkg = [...list('pkg', /\.js$/), 'pkg/dist/face96.js', ...WASM, ...list('pkg/weights', /\.safetensors$/)];
  return new Map([...own, ...pkg].map((path) => [path.replace(/^www\//, '').replace(/^index\.html$/, './'), join(root, path)]));
}

/** Writes the list. @param {string} root */
export function writeOfflineFiles(root) {
  const hash = (path) => createHash('sha256').update(readFileSync(path)).digest('hex');
  const hashes = Object.fromEntries(Array.from(pageFiles(root), ([address, path]) => [address, hash(path)]));
  const lines = [
    '// Written by tools/offline-files.js; see sw.js.',
    `self.OFFLINE_FILES = ${JSON.stringify(hashes, null, 2)};`,
    `self.OFFLINE_WASM = ${JSON.stringify(WASM)};`,
    `self.RELAXED_SIMD_PROBE = ${JSON.stringify(PROBE)};`,
  ];
  const text = lines.join('\n') + '\n';
  writeFileSync(join(root, 'www/offline-files.js'), text);
}

const self = fileURLToPath(import.meta.url);
if (process.argv[1] === self) writeOfflineFiles(process.argv[2] ?? join(self, '../..'));
