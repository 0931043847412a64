// The wasm itself: which of the two files a page loads, that both agree, and that frames leave the memory as it is.
import assert from 'node:assert/strict';
import { suite, test } from './harness.js';

const shared = suite();

/** Its probes are shorter than any module that does something. */
const WITHOUT_RELAXED = `
  const validate = WebAssembly.validate;
  WebAssembly.validate = (bytes) => bytes.length > 100 && validate(bytes);`;

/**
 * Loads the package in a fresh page and returns the wasm files it fetched and whether the browser has relaxed-simd.
 * @param {string} [prelude] a script that the page runs before all else
 * @param {object} [options] for createDetector
 */
async function loaded(prelude = '', options = {}) {
  const page = await shared.browser.newPage();
  const fetched = [];
  page.on('request', (request) => {
    if (/\.wasm$|plain\.js$/.test(request.url())) fetched.push(new URL(request.url()).pathname.split('/').at(-1));
  });
  await page.addInitScript(prelude);
  await page.goto(shared.url);
  const relaxed = await page.evaluate(async (options) => {
    const { createDetector } = await import('/pkg/index.js');
    const { hasRelaxedSimd } = await import('/pkg/simd.js');
    const detector = await createDetector({ worker: false, ...options });
    await detector.detect(new ImageData(96, 96));
    detector.close();
    return hasRelaxedSimd();
  }, options);
  await page.close();
  return { fetched, relaxed };
}

test('a page loads one wasm file: with relaxed-simd where the browser has it', async () => {
  const { fetched, relaxed } = await loaded();
  assert.equal(relaxed, true, 'Chromium has had it since version 114');
  assert.deepEqual(fetched, ['face96_relaxed_bg.wasm']);
});

test('a browser without relaxed-simd imports the plain build', async () => {
  const { fetched, relaxed } = await loaded(WITHOUT_RELAXED);
  assert.equal(relaxed, false);
  assert.deepEqual(fetched, ['plain.js']);
});

test('a browser that cannot unpack the plain build either is told', async () => {
  const page = await shared.browser.newPage();
  await page.addInitScript(WITHOUT_RELAXED + 'delete globalThis.DecompressionStream;');
  await page.goto(shared.url);
  const code = await page.evaluate(async () => {
    const { createDetector } = await import('/pkg/index.js');
    return createDetector({ worker: false }).then(
      () => 'loaded',
      ({ name, code }) => [name, code],
    );
  });
  assert.deepEqual(code, ['Face96Error', 'wasm-unsupported']);
  await page.close();
});

test('a wasmUrl that the caller gives wins', async () => {
  const { fetched } = await loaded('', { wasmUrl: '/pkg/dist/face96_bg.wasm' });
  assert.deepEqual(fetched, ['face96_bg.wasm']);
});

test('both wasm files find the same keypoints, and 10,000 frames leave their memory as the first one did', async () => {
  const page = await shared.browser.newPage();
  await page.goto(shared.url);
  const results = await page.evaluate(async () => {
    const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
    const weights = await bytes('/pkg/weights/compact.safetensors');
    const run = async (file, frames) => {
      // A module of its own for each file: the glue holds one instance.
      const glue = await import(`/pkg/dist/face96.js?${file}`);
      const { memory } = await glue.default({ module_or_path: await bytes(`/pkg/dist/${file}`) });
      const face = new glue.SyntheticFace(3, 96, 96);
      const crops = [0, 1, 2, 3].map((second) => face.draw(second));
      face.free();
      const detector = new glue.Detector(weights);
      const first = crops.map((crop) => [...detector.detect(crop)]);
      const before = memory.buffer.byteLength;
      let last;
      for (let i = 0; i < frames; i++) {
        last = detector.detect(crops[i % 4]);
        if (memory.buffer.byteLength !== before) throw new Error(`${file}: frame ${i} made the memory grow`);
      }
      detector.free();
      return { first, last: [...last] };
    };
    return { plain: await run('face96_bg.wasm', 4), relaxed: await run('face96_relaxed_bg.wasm', 10_000) };
  });
  await page.close();
  const { plain, relaxed } = results;
  assert.deepEqual(relaxed.last, relaxed.first[3], 'the last frame is as its first time');
  let apart = 0;
  plain.first.forEach((frame, i) => {
    for (let k = 0; k < (frame.length - 1) / 3; k++) {
      for (const axis of [1, 2])
        apart = Math.max(apart, Math.abs(frame[3 * k + axis] - relaxed.first[i][3 * k + axis]));
    }
  });
  assert.ok(apart < 96e-3, `the two wasm files are ${apart} px apart`);
});
