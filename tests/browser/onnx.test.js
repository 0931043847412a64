// The ONNX export, run by onnxruntime, against the package's own wasm, both in Node.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { finderPath, program, root, temporaryFolder, weightsPath } from './harness.js';

const SIDE = 96;

/** Luma in whole levels. */
const greyBytes = (rgba) =>
  Uint8Array.from({ length: SIDE * SIDE }, (_, i) =>
    Math.floor(0.299 * rgba[4 * i] + 0.587 * rgba[4 * i + 1] + 0.114 * rgba[4 * i + 2] + 0.5),
  );

/** The net's input by its definition, for the ONNX file, which begins there. */
function normalised(rgba, how) {
  const grey = Float32Array.from(greyBytes(rgba));
  if (how === 'unit') return grey.map((v) => v / 255);
  const mean = grey.reduce((a, b) => a + b) / grey.length;
  const deviation = Math.sqrt(grey.reduce((sum, v) => sum + (v - mean) ** 2, 0) / grey.length);
  return grey.map((v) => (v - mean) / Math.max(deviation, 8));
}

/** onnxruntime, and our own wasm in Node. */
async function runtimes() {
  // It is large and only these tests and the benchmark need it, so it lives beside the benchmark.
  const require = createRequire(join(root, 'tools/bench/package.json'));
  const ort = await import(pathToFileURL(require.resolve('onnxruntime-web')).href);
  ort.env.wasm.numThreads = 1;
  const ours = await import(join(root, 'pkg/dist/face96.js'));
  await ours.default({ module_or_path: readFileSync(join(root, 'pkg/dist/face96_bg.wasm')) });
  return { ort, ...ours };
}

test('onnxruntime finds the face that our finder finds', async (t) => {
  const { ort, Detector, Tracker, SyntheticFace } = await runtimes();
  const onnx = join(temporaryFolder(t), 'finder.onnx');
  execFileSync(program, ['export', '--weights', finderPath, '--onnx', onnx]);
  const detector = new Detector(readFileSync(weightsPath));
  detector.addFinder(readFileSync(finderPath));
  const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(onnx)), {
    executionProviders: ['wasm'],
  });
  for (const seed of [5, 6, 7]) {
    const rgba = new SyntheticFace(seed, SIDE, SIDE).draw(0);
    const grey = normalised(rgba, 'standard');
    const { boxes } = await session.run({ input: new ort.Tensor('float32', grey, [1, 1, SIDE, SIDE]) });
    assert.deepEqual(boxes.dims, [1, 5, 24, 24]);
    const at = (value, place) => boxes.data[576 * value + place];
    const best = Array.from({ length: 576 }, (_, place) => place).reduce((a, b) => (at(0, b) > at(0, a) ? b : a));
    assert.ok(at(0, best) > 0, `face ${seed}: a logit of ${at(0, best)}`);
    const expected = [(best % 24) + 0.5 + at(1, best), Math.floor(best / 24) + 0.5 + at(2, best)].map(
      (v) => 4 * v - 0.5,
    );
    expected.push(24 * Math.exp(at(3, best)), at(4, best));

    const tracker = new Tracker(detector, 1, 0.5, 0, 0, 1);
    assert.deepEqual([...tracker.begin(SIDE, SIDE, 0)], [47.5, 47.5, SIDE, 0, 1]);
    tracker.takeLuma(greyBytes(rgba), SIDE, SIDE, SIDE, true);
    const found = tracker.look(detector);
    assert.equal(found[4], 0, 'the crop that is needed next is for the keypoints');
    expected.forEach((value, i) =>
      assert.ok(Math.abs(found[i] - value) < 0.05, `face ${seed}: ${[...found]}, ${expected} by onnxruntime`),
    );
    tracker.free();
  }
  detector.free();
  await session.release();
});

test('onnxruntime gives the keypoints that we give, for every kind of net', async (t) => {
  const { ort, Detector, SyntheticFace } = await runtimes();
  const folder = temporaryFolder(t);
  // The error names every net. The layers of net3 to net5 are those of net2, net7 is a wider net6, and the finder has its own test.
  const { stderr } = spawnSync(program, ['train', '--preset', 'none'], { encoding: 'utf8' });
  const nets = stderr.match(/expected one of (.*)/)[1].split(', ');
  const kinds = nets.filter((net) => !['net3', 'net4', 'net5', 'net7', 'finder'].includes(net));
  assert.ok(kinds.includes('compact'), stderr);
  execFileSync(program, ['bench', '--nets', kinds.join(), '--files', folder]);
  const shipped = { weights: weightsPath, onnx: join(folder, 'shipped.onnx') };
  execFileSync(program, ['export', '--weights', shipped.weights, '--onnx', shipped.onnx]);
  const dense = { weights: weightsPath.replace('compact', 'compact68'), onnx: join(folder, 'compact68.onnx') };
  execFileSync(program, ['export', '--weights', dense.weights, '--onnx', dense.onnx]);
  const fresh = kinds.map((net) => ({
    weights: join(folder, `${net}.safetensors`),
    onnx: join(folder, `${net}.onnx`),
  }));
  const face = new SyntheticFace(5, SIDE, SIDE);
  const pictures = [0, 1].map((second) => face.draw(second));
  for (const { weights, onnx } of [...fresh, shipped, dense]) {
    const bytes = readFileSync(weights);
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString());
    const how = JSON.parse(header.__metadata__.normalisation);
    const detector = new Detector(bytes);
    const points = detector.info().schema.keypoints.length;
    const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(onnx)), {
      executionProviders: ['wasm'],
    });
    // Both pictures at once: the batch is free.
    const input = new Float32Array(2 * SIDE * SIDE);
    pictures.forEach((rgba, i) => input.set(normalised(rgba, how), i * SIDE * SIDE));
    const { keypoints, variance, presence, confidence } = await session.run({
      input: new ort.Tensor('float32', input, [2, 1, SIDE, SIDE]),
    });
    assert.deepEqual(keypoints.dims, [2, points, 2], onnx);
    assert.equal(points, onnx === dense.onnx ? 68 : 15);
    const heatmaps = !['mlp', 'tutorial'].includes(JSON.parse(header.__metadata__.config).kind);
    assert.deepEqual(variance?.dims, heatmaps ? [2, points] : undefined);
    assert.deepEqual(presence?.dims, heatmaps ? [2, 1] : undefined);
    pictures.forEach((rgba, i) => {
      const ours = detector.detect(rgba);
      for (let k = 0; k < points; k++) {
        for (const axis of [0, 1]) {
          const [a, b] = [ours[1 + 3 * k + axis], keypoints.data[2 * points * i + 2 * k + axis]];
          // 1e-3 of the net's unit, which is half the side.
          assert.ok(Math.abs(a - b) < 1e-3 * (SIDE / 2), `${onnx}: keypoint ${k}: ${a} here, ${b} by onnxruntime`);
        }
      }
      for (let k = 0; confidence && k < points; k++) {
        const [a, b] = [ours[3 + 3 * k], confidence.data[points * i + k]];
        assert.ok(Math.abs(a - b) < 1e-3, `${onnx}: confidence ${k}: ${a} here, ${b} by onnxruntime`);
      }
      if (presence)
        assert.ok(Math.abs(ours[0] - presence.data[i]) < 1e-3, `${onnx}: ${ours[0]} and ${presence.data[i]}`);
    });
    detector.free();
    await session.release();
  }
});
