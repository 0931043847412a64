// One clip in every engine at hand, in both wasm files, with a worker and without: the same keypoints.
//   FRAMES=1000 node --test tests/browser/engines.test.js
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { executables, launch, serve } from './harness.js';

const FRAMES = Number(process.env.FRAMES ?? 100);
const LIMIT = 1e-3;

/** In a page: the keypoints of each frame, all coordinates in a row, with a worker and without. */
async function runs({ file, frames }) {
  const { createDetector } = await import('/pkg/index.js');
  const { createSyntheticFace } = await import('/pkg/synthetic.js');
  const { hasRelaxedSimd } = await import('/pkg/simd.js');
  if (file.includes('relaxed') && !hasRelaxedSimd()) return null;
  const wasmUrl = `/pkg/dist/${file}`;
  const face = await createSyntheticFace({ seed: 4, width: 320, height: 240, wasmUrl });
  const found = {};
  for (const worker of [true, false]) {
    const detector = await createDetector({ worker, wasmUrl });
    const rows = [];
    for (let i = 0; i < frames; i++) {
      // Raw pixels: how a canvas shrinks a picture is each engine's own affair.
      const { data, width, height } = face.draw(i / 30);
      const { faces } = await detector.detect({ data, width, height }, { timestamp: (1000 * i) / 30 });
      rows.push(faces.flatMap(({ keypoints }) => keypoints.flatMap(({ x, y }) => [x, y])));
    }
    found[`${file} ${detector.runsIn === 'worker' ? 'in a worker' : 'without a worker'}`] = rows;
    detector.close();
  }
  face.close();
  return found;
}

const engines = Object.keys(executables);

test(`a clip of ${FRAMES} frames gives the same keypoints in ${engines.join(' and ')}`, {
  timeout: 600_000,
}, async (t) => {
  const url = await serve(t);
  /** @type {[string, number[][]][]} */
  const all = [];
  for (const engine of engines) {
    if (!existsSync(executables[engine])) {
      t.diagnostic(`skipped: there is no ${executables[engine]}`);
      continue;
    }
    const browser = await launch(t, { engine });
    for (const file of ['face96_bg.wasm', 'face96_relaxed_bg.wasm']) {
      const page = await browser.newPage();
      await page.goto(`${url}pkg/package.json`);
      const found = await page.evaluate(runs, { file, frames: FRAMES });
      if (!found) t.diagnostic(`skipped: ${engine} has no relaxed-simd`);
      for (const [way, rows] of Object.entries(found ?? {})) all.push([`${engine}, ${way}`, rows]);
      await page.close();
    }
  }
  const [[first, want]] = all;
  for (const [way, rows] of all) {
    let [worst, at] = [0, 0];
    rows.forEach((row, i) => {
      assert.equal(row.length, want[i].length, `${way}: another count of faces in frame ${i}`);
      row.forEach(
        (value, k) => Math.abs(value - want[i][k]) > worst && ([worst, at] = [Math.abs(value - want[i][k]), i]),
      );
    });
    t.diagnostic(`${way}: at most ${worst.toExponential(1)} px from ${first}, in frame ${at}`);
    assert.ok(worst <= LIMIT, `${way} is ${worst} px from ${first} in frame ${at}`);
  }
});
