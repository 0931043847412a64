// A short version of the long run (tests/browser/long-run.js): what grows by the frame shows in some hundred of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { complaints, longRun } from './long-run.js';

test('memory stays flat and no frame is left open', { timeout: 120_000 }, async (t) => {
  const run = await longRun(t, { frames: 600, readings: 3 });
  for (const r of run.readings) {
    t.diagnostic(
      `${r.frames} frames: heap ${(r.heap / 1e6).toFixed(2)} MB, wasm ${(r.wasm / 1e6).toFixed(2)} MB, median ${r.median.toFixed(1)} ms, p95 ${r.p95.toFixed(1)} ms`,
    );
    assert.ok(r.found > 0.95, `a face in ${100 * r.found} % of the frames`);
  }
  // Frame times say little while other tests run beside this one; `make soak` looks at them.
  assert.deepEqual(
    complaints(run).filter((complaint) => !complaint.endsWith('ms')),
    [],
  );
});
