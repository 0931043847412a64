// Finder or keypoints plus everything around them costs at most 2 ms over the nets, for each frame of 640x480.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeMovingClip } from './clip.js';
import { makeClip, serve, temporaryFolder } from './harness.js';
import { pageCost } from './page-speed.js';

/** Milliseconds a frame over the nets, on a machine with nothing else to do, by net: with 68 points come expressions and more lines. */
const BOUNDS = { compact: 2, compact68: 2.2 };
/** What the nets take there. Beside other work all takes longer, the nets too: the bound then grows as they do. */
const NETS = 1.6;

for (const [net, bound] of Object.entries(BOUNDS)) {
  test(`a camera frame costs the page at most ${bound} ms over the nets, with ${net}`, {
    timeout: 120_000,
  }, async (t) => {
    const clip = join(temporaryFolder(t), 'camera.mjpeg');
    await makeClip(t, await serve(t), clip, writeMovingClip);
    const { frames, page, worker, painter, detector, nets } = await pageCost(t, { clip, seconds: 8, net });
    if (!frames) return t.skip('the machine was too busy: in no second came 24 of the 30 frames');
    const busy = Math.max(1, nets / NETS);
    const cost = page + worker;
    t.diagnostic(
      `${frames} frames: page ${page.toFixed(2)} ms, worker ${worker.toFixed(2)} ms, together ${cost.toFixed(2)} ms over nets of ${nets.toFixed(2)} ms; the painter's thread ${painter.toFixed(2)} ms`,
    );
    t.diagnostic(
      `the package by itself, from call to result: ${detector.toFixed(2)} ms over its nets; the machine is taken to be ${busy.toFixed(2)} times as slow as at rest`,
    );
    assert.ok(cost <= bound * busy, `${cost.toFixed(2)} ms over the nets, more than ${(bound * busy).toFixed(2)}`);
  });
}
