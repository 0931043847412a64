// The ONNX export, run by onnxruntime, against the package's own wasm, both in Node.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { program, root, temporaryFolder, weightsPath } from './harness.js';

const SIDE = 96;

/** The net's input by its definition, for the ONNX file, which begins there. */
function normalised(rgba, how) {
  const grey = Float32Array.from({ length: SIDE * SIDE }, (_, i) =>
    Math.floor(0.299 * rgba[4 * i] + 0.587 * rgba[4 * i + 1] + 0.114 * rgba[4 * i + 2] + 0.5),
  );
  if (how === 'unit') return grey.map((v) => v / 255);
  const mean = grey.reduce((a, b) => a + b) / grey.length;
  const deviation = Math.sqrt(grey.reduce((sum, v) => sum + (v - mean) ** 2, 0) / grey.length);
  return grey.map((v) => (v - mean) / Math.max(deviation, 8));
}

test('onnxruntime gives the keypoints that we give, for every kind of net', async (t) => {
  // It is large and only this test and the benchmark need it, so it lives beside the benchmark.
  const require = createRequire(join(root, 'tools/bench/package.json'));
  const ort = await import(pathToFileURL(require.resolve('onnxruntime-web')).href);
  ort.env.wasm.numThreads = 1;
  const { default: init, Detector, SyntheticFace } = await import(join(root, 'pkg/dist/face96.js'));
  await init({ module_or_path: readFileSync(join(root, 'pkg/dist/face96_bg.wasm')) });

  const folder = temporaryFolder(t);
  execFileSync(program, ['bench', '--nets', 'net1,net2,net6,compact', '--files', folder]);
  const shipped = { weights: weightsPath, onnx: join(folder, 'shipped.onnx') };
  execFileSync(program, ['export', '--weights', shipped.weights, '--onnx', shipped.onnx]);
  const fresh = ['net1', 'net2', 'net6', 'compact'].map((net) => ({
    weights: join(folder, `${net}.safetensors`),
    onnx: join(folder, `${net}.onnx`),
  }));
  const face = new SyntheticFace(5, SIDE, SIDE);
  const pictures = [0, 1].map((second) => face.draw(second));
  for (const { weights, onnx } of [...fresh, shipped]) {
    const bytes = readFileSync(weights);
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString());
    const how = JSON.parse(header.__metadata__.normalisation);
    const detector = new Detector(bytes);
    const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(onnx)), { executionProviders: ['wasm'] });
    // Both pictures at once: the batch is free.
    const input = new Float32Array(2 * SIDE * SIDE);
    pictures.forEach((rgba, i) => input.set(normalised(rgba, how), i * SIDE * SIDE));
    const { keypoints, variance, presence, confidence } = await session.run({ input: new ort.Tensor('float32', input, [2, 1, SIDE, SIDE]) });
    assert.deepEqual(keypoints.dims, [2, 15, 2], onnx);
    const heatmaps = onnx.includes('compact') || onnx === shipped.onnx;
    assert.deepEqual(variance?.dims, heatmaps ? [2, 15] : undefined);
    assert.deepEqual(presence?.dims, heatmaps ? [2, 1] : undefined);
    pictures.forEach((rgba, i) => {
      const ours = detector.detect(rgba);
      for (let k = 0; k < 15; k++) {
        for (const axis of [0, 1]) {
          const [a, b] = [ours[1 + 3 * k + axis], keypoints.data[30 * i + 2 * k + axis]];
          // 1e-3 of the net's unit, which is half the side.
          assert.ok(Math.abs(a - b) < 1e-3 * (SIDE / 2), `${onnx}: keypoint ${k}: ${a} here, ${b} by onnxruntime`);
        }
      }
      for (let k = 0; confidence && k < 15; k++) {
        const [a, b] = [ours[3 + 3 * k], confidence.data[15 * i + k]];
        assert.ok(Math.abs(a - b) < 1e-3, `${onnx}: confidence ${k}: ${a} here, ${b} by onnxruntime`);
      }
      if (presence) assert.ok(Math.abs(ours[0] - presence.data[i]) < 1e-3, `${onnx}: ${ours[0]} and ${presence.data[i]}`);
    });
    detector.free();
    await session.release();
  }
});
