// A user's own keypoints, from labelled pictures to the page, without a line of code changed.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { launch, program, readCsv, serve, temporaryFolder } from './harness.js';

const NAMES = ['left_ear', 'right_ear', 'nose', 'chin'];

test('four points on pictures of any size train, are exported and run in the browser', async (t) => {
  const folder = temporaryFolder(t);
  const url = await serve(t);
  const browser = await launch(t);
  const page = await browser.newPage();
  await page.goto(url);

  // Drawn heads of a side of 110 to 200 pixels; the last is kept for the browser.
  const pictures = await page.evaluate(async () => {
    const pictures = [];
    for (let i = 0; i < 41; i++) {
      const side = 110 + ((i * 37) % 91);
      const canvas = new OffscreenCanvas(side, side);
      const pen = canvas.getContext('2d');
      pen.fillStyle = '#888';
      pen.fillRect(0, 0, side, side);
      const [x, y] = [side * (0.5 + 0.1 * Math.sin(i)), side * (0.5 + 0.1 * Math.cos(2 * i))];
      const points = [
        [0.25, 0],
        [-0.25, 0],
        [0, 0.05],
        [0, 0.3],
      ].map(([dx, dy]) => [x + side * dx, y + side * dy]);
      ['#fff', '#ccc', '#000', '#444'].forEach((colour, k) => {
        pen.fillStyle = colour;
        pen.beginPath();
        // The canvas has pixel centres at halves, labels have them at whole numbers.
        pen.arc(points[k][0] + 0.5, points[k][1] + 0.5, side * 0.06, 0, 7);
        pen.fill();
      });
      const bytes = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
      pictures.push({ side, points, png: btoa(String.fromCharCode(...bytes)) });
    }
    return pictures;
  });
  let csv = `file,${NAMES.map((name) => `${name}_x,${name}_y`).join(',')}\n`;
  pictures.forEach(({ points, png }, i) => {
    writeFileSync(join(folder, `${i}.png`), Buffer.from(png, 'base64'));
    if (i < 40) csv += `${i}.png,${points.flat().join(',')}\n`;
  });
  writeFileSync(join(folder, 'labels.csv'), csv);

  const at = (...names) => join(folder, ...names);
  const run = (...args) => execFileSync(program, args, { encoding: 'utf8' });
  run('train', '--data', at('labels.csv'), '--epochs', '12', '--batch', '8', '--out', at('run'));
  run('export', '--run', at('run'), '--out', at('four.safetensors'));
  run('predict', '--weights', at('four.safetensors'), '--data', at('40.png'), '--crop', '--csv', at('found.csv'));
  const [native] = readCsv(at('found.csv'));

  await page
    .context()
    .route('**/four.safetensors', (route) => route.fulfill({ body: readFileSync(at('four.safetensors')) }));
  const { side, png } = pictures[40];
  const faces = await page.evaluate(
    async ([side, png]) => {
      const { createDetector } = await import('/pkg/index.js');
      const detector = await createDetector({ weightsUrl: '/four.safetensors', worker: false });
      const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(png), (c) => c.charCodeAt(0))]));
      const box = { x: (side - 1) / 2, y: (side - 1) / 2, size: side, roll: 0 };
      const { faces } = await detector.detect(bitmap, { box });
      detector.close();
      return faces;
    },
    [side, png],
  );
  assert.equal(faces.length, 1);
  assert.deepEqual(
    faces[0].keypoints.map((k) => k.name),
    NAMES,
  );
  faces[0].keypoints.forEach((keypoint) => {
    // Two ways of resampling: within a pixel of the 96-pixel crop.
    const [x, y] = [Number(native[`${keypoint.name}_x`]), Number(native[`${keypoint.name}_y`])];
    const apart = (Math.hypot(keypoint.x - x, keypoint.y - y) * 96) / side;
    assert.ok(apart < 1, `${keypoint.name}: ${keypoint.x}, ${keypoint.y} in the browser, ${x}, ${y} natively`);
  });
});
