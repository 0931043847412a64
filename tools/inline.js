// Writes pkg/dist/inline.js, the package in one file: see pkg/inline/index.js. Build the wasm first (tools/build-web.sh).
//   node tools/inline.js
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateRawSync } from 'node:zlib';
import { rolldown } from 'rolldown';

const pkg = fileURLToPath(new URL('../pkg/', import.meta.url));

/** The differences of the single file: where its files are; and no address that a bundler would look for. */
const inside = {
  name: 'inside',
  resolveId: (/** @type {string} */ id) => (id.endsWith('/files.js') ? join(pkg, 'inline/files.js') : null),
  transform: (/** @type {string} */ code) => code.replace("new URL('face96_bg.wasm', import.meta.url)", "''"),
};

/** A module and all its imports, as one. @param {string} input @returns {Promise<string>} */
async function bundle(input) {
  const build = await rolldown({ input: join(pkg, input), plugins: [inside], logLevel: 'silent' });
  const { output } = await build.generate({ format: 'es', minify: true, codeSplitting: false });
  await build.close();
  return output[0].code;
}

const pack = (/** @type {string} */ path) =>
  deflateRawSync(readFileSync(join(pkg, path)), { level: 9 }).toString('base64');
const embedded = {
  worker: await bundle('worker.js'),
  // The build that runs in every browser.
  wasm: pack('dist/face96_bg.wasm'),
  weights: pack('weights/compact.safetensors'),
  finder: pack('weights/finder.safetensors'),
};
const lines = Object.entries(embedded).map(([name, text]) => `export const ${name} = ${JSON.stringify(text)};\n`);
writeFileSync(join(pkg, 'inline/embedded.js'), lines.join(''));
writeFileSync(
  join(pkg, 'inline/embedded.d.ts'),
  Object.keys(embedded)
    .map((name) => `export const ${name}: string;\n`)
    .join(''),
);
writeFileSync(
  join(pkg, 'dist/inline.js'),
  `// Made by tools/inline.js of pkg/inline/index.js.\n${await bundle('inline/index.js')}`,
);
