// Writes pkg/dist/inline.js, the package with its files inside (see pkg/inline/index.js), and pkg/dist/plain.js, the wasm that it imports
// (see pkg/inline/plain.js). tools/build-web.sh builds the wasm first.
//   node tools/inline.js
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, deflateRawSync } from 'node:zlib';
import { rolldown } from 'rolldown';

const pkg = fileURLToPath(new URL('../pkg/', import.meta.url));

/** Where the files are: inside, and the wasm in a module of its own. */
const inside = {
  name: 'inside',
  resolveId: (/** @type {string} */ id) => {
    if (id.endsWith('/dist/plain.js')) return { id: './plain.js', external: true };
    return id.endsWith('/files.js') ? join(pkg, 'inline/files.js') : null;
  },
};

/** A module and all its imports, as one. @param {string} input @returns {Promise<string>} */
async function bundle(input) {
  const build = await rolldown({ input: join(pkg, input), plugins: [inside], logLevel: 'silent' });
  const { output } = await build.generate({ format: 'es', minify: true, codeSplitting: false });
  await build.close();
  return output[0].code;
}

/** Weights are almost noise: matches of a few bytes, which this strategy leaves alone, cost more than they save. */
const NOISE = { level: 9, strategy: constants.Z_FILTERED };
const pack = (/** @type {string} */ path, /** @type {import('node:zlib').ZlibOptions} */ options) =>
  deflateRawSync(readFileSync(join(pkg, path)), options).toString('base64');

/** Writes a module of strings, and its types. @param {string} name @param {Record<string, string>} strings */
function write(name, strings) {
  const lines = Object.entries(strings).map(([key, text]) => `export const ${key} = ${JSON.stringify(text)};\n`);
  writeFileSync(join(pkg, `inline/${name}.js`), lines.join(''));
  const types = Object.keys(strings).map((key) => `export const ${key}: string;\n`);
  writeFileSync(join(pkg, `inline/${name}.d.ts`), types.join(''));
}

/** Writes the bundle of a module in pkg/inline. @param {string} name @param {string} source */
async function writeBundle(name, source) {
  const code = await bundle(`inline/${source}`);
  writeFileSync(join(pkg, `dist/${name}.js`), `// Made by tools/inline.js from pkg/inline/${source}.\n${code}`);
}

write('embedded-wasm', { wasm: pack('dist/face96_bg.wasm', { level: 9 }) });
await writeBundle('plain', 'plain.js');
const TYPES = "export function wasm(): Promise<Uint8Array>;\nexport { unpack } from '../inline/unpack.js';\n";
writeFileSync(join(pkg, 'dist/plain.d.ts'), TYPES);
write('embedded', {
  worker: await bundle('worker.js'),
  weights: pack('weights/compact.safetensors', NOISE),
  finder: pack('weights/finder.safetensors', NOISE),
});
await writeBundle('inline', 'index.js');
