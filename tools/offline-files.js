// Writes www/offline-files.js: every file of the page by its address, with the SHA-256 of its bytes, for the service worker.
//   node tools/offline-files.js
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const list = (folder, kinds) => readdirSync(join(root, folder)).filter((name) => kinds.test(name)).sort().map((name) => join(folder, name));

/** Addresses relative to the page, by file: www/ is the page's own folder, pkg/ lies in it. */
export function pageFiles() {
  const own = list('www', /\.(html|css|js|svg|png|webmanifest)$/).filter((path) => !/(sw|offline-files)\.js$/.test(path));
  const pkg = [
    ...list('pkg', /\.js$/),
    'pkg/dist/face96.js',
    'pkg/dist/face96_bg.wasm',
    ...list('pkg/weights', /\.safetensors$/),
  ];
  return new Map([...own, ...pkg].map((path) => [path.replace(/^www\//, '').replace(/^index\.html$/, './'), join(root, path)]));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const hashes = Array.from(pageFiles(), ([address, path]) => [address, createHash('sha256').update(readFileSync(path)).digest('hex')]);
  const text = `// Written by tools/offline-files.js; see sw.js.\nself.OFFLINE_FILES = ${JSON.stringify(Object.fromEntries(hashes), null, 2)};\n`;
  writeFileSync(join(root, 'www/offline-files.js'), text);
}
