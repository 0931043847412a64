// Writes the page as one folder for any static host, at its root or under a path: index.html and the files that must keep their names beside it,
// everything else in assets/ under a name with the hash of its content, which may be cached for ever; .br and .gz beside each file, for
// hosts that send those; _headers for hosts that read it, and the policy in index.html for the others. Run `make web` first.
//   node tools/site.js [FOLDER]   default target/site
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { WASM, netFiles, netList, offlineList, pageFiles } from './offline-files.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const site = resolve(process.argv[2] ?? join(root, 'target/site'));
/** Files that keep their names, because they are requested by name or contain addresses relative to their own. */
const NAMED = ['./', 'manifest.webmanifest'];
/** The places where a file names another file of the page. */
const REFERENCES = {
  '.js':
    /(?<=^(?:import|export)\b[^'\n]* from ')[^']+(?=')|(?<=^import ')[^']+(?=')|(?<=^ *import\(')[^']+(?='\)\.then)|(?<=new URL\(')[^']+(?=', import\.meta\.url\))/gm,
  '.html': /(?<=(?:href|src)=")[^"#:]+(?=")/g,
  '.webmanifest': /(?<="src": ")[^"]+(?=")/g,
};
/** The policy that `face96 serve` sends, with which the tests check the page. */
const [, policy] =
  readFileSync(join(root, 'src/cli/serve.rs'), 'utf8').match(/const POLICY: &str =\s*"((?:[^"\\]|\\[\s\S])*)"/) ?? [];
if (!policy) throw new Error('src/cli/serve.rs has no POLICY');
const POLICY = policy.replace(/\\\s+/g, '');

const hash = (/** @type {string | Buffer} */ bytes) => createHash('sha256').update(bytes).digest('hex');

/** Every file by its address on the page. */
const files = new Map([...pageFiles(root), ...netFiles(root)]);
// These are only for installing the page.
for (const icon of ['icon-512.png', 'icon-maskable.png']) files.set(icon, join(root, 'www', icon));
const addressOf = new Map(Array.from(files, ([address, path]) => [path, address]));
/** New addresses by the old ones. @type {Map<string, string>} */
const placed = new Map();

/**
 * Writes a file under its new address, after the files that it names.
 * @param {string} address
 * @returns {string} the new one
 */
function place(address) {
  const known = placed.get(address);
  if (known !== undefined) return known;
  const path = /** @type {string} */ (files.get(address));
  const kind = extname(path);
  const named = NAMED.includes(address);
  let content = readFileSync(path);
  if (kind in REFERENCES) {
    const from = named ? '.' : 'assets';
    const text = content.toString().replace(REFERENCES[/** @type {keyof typeof REFERENCES} */ (kind)], (reference) => {
      // The server offers pkg/ inside the page's folder.
      const folder = dirname(path);
      const target = [join(folder, reference), join(root, reference)]
        .map((path) => addressOf.get(path))
        .find((address) => address !== undefined);
      if (target === undefined) throw new Error(`${path} names ${reference}, which is no file of the page`);
      const to = relative(from, place(target));
      return kind === '.js' ? `./${to}` : to;
    });
    content = Buffer.from(address === './' ? withPolicy(text) : text);
  }
  const name = basename(path, kind);
  const target = named ? basename(path) : `assets/${name}.${hash(content).slice(0, 10)}${kind}`;
  placed.set(address, target);
  write(target, content);
  return target;
}

/** @param {string} html */
const withPolicy = (html) =>
  html.replace('<meta charset="utf-8">', `$&\n  <meta http-equiv="Content-Security-Policy" content="${POLICY}">`);

/** Writes a file and its compressed copies. @param {string} address @param {string | Buffer} content */
function write(address, content) {
  const path = join(site, address);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  if (/\.(png|br|gz)$/.test(address)) return;
  writeFileSync(`${path}.br`, brotliCompressSync(content));
  writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
}

rmSync(site, { recursive: true, force: true });
const nets = netFiles(root);
for (const address of nets.keys()) place(address);
const list = netList(nets, place);
placed.set('net-list.js', `assets/net-list.${hash(list).slice(0, 10)}.js`);
write(place('net-list.js'), list);
for (const address of files.keys()) place(address);
const inSite = (/** @type {string[]} */ addresses) =>
  new Map(addresses.map((address) => [address === './' ? './' : place(address), join(site, place(address))]));
const page = [...pageFiles(root).keys()];
write(
  'offline-files.js',
  offlineList(inSite(page), inSite([...nets.keys()].filter((address) => !page.includes(address))), WASM.map(place)),
);
write('sw.js', readFileSync(join(root, 'www/sw.js')));
write(
  '_headers',
  `/*\n  Content-Security-Policy: ${POLICY}\n  X-Content-Type-Options: nosniff\n/assets/*\n  Cache-Control: public, max-age=31536000, immutable\n`,
);
console.log(`[site] ${site}: ${files.size + 2} files, from ${place('./')}`);
