// In the page: every runtime with the same net, weights and picture, behind one interface.
// A runtime is a function that runs one frame and returns its keypoints, [x0, y0, x1, y1, ...] in pixels of the crop.

const SIDE = 96;
const fetchBytes = async (url) => {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
};

/** Metadata and f32 tensors of a safetensors file. */
function readSafetensors(bytes) {
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const tensors = {};
  for (const [
    name,
    {
      shape,
      data_offsets: [from, to],
    },
  ] of Object.entries(entries)) {
    tensors[name] = { shape, values: new Float32Array(bytes.slice(8 + length + from, 8 + length + to).buffer) };
  }
  return { metadata, tensors };
}

/** As in src/picture.rs: RGBA to grey in whole levels, then the net's input. */
function normalised(rgba, how) {
  const grey = Float32Array.from({ length: SIDE * SIDE }, (_, i) =>
    Math.floor(0.299 * rgba[4 * i] + 0.587 * rgba[4 * i + 1] + 0.114 * rgba[4 * i + 2] + 0.5),
  );
  if (how === 'unit') return grey.map((v) => v / 255);
  const mean = grey.reduce((a, b) => a + b) / grey.length;
  const variance = grey.reduce((sum, v) => sum + (v - mean) ** 2, 0) / grey.length;
  const scale = 1 / Math.max(Math.sqrt(variance), 8);
  return grey.map((v) => (v - mean) * scale);
}

async function onnxruntime(net, input) {
  const ort = await import('/tools/bench/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs');
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = '/tools/bench/node_modules/onnxruntime-web/dist/';
  const bytes = await fetchBytes(`/target/bench/${net}.onnx`);
  const session = await ort.InferenceSession.create(bytes, {
    executionProviders: ['wasm'],
    graphOptimizationLevel: 'all',
  });
  const feeds = { input: new ort.Tensor('float32', input, [1, 1, SIDE, SIDE]) };
  return async () => (await session.run(feeds)).keypoints.data;
}

async function tfjs(graph, tensors, input) {
  const { tf } = globalThis;
  tf.wasm.setWasmPaths('/tools/bench/node_modules/@tensorflow/tfjs-backend-wasm/dist/');
  tf.wasm.setThreadsCount(1);
  if (!(await tf.setBackend('wasm'))) throw new Error('tfjs has no wasm backend here');
  await tf.ready();
  const weights = {};
  for (const node of graph.nodes) {
    const weight = tensors[`${node.name}.weight`];
    if (!weight) continue;
    const w = tf.tensor(weight.values, weight.shape);
    // To tfjs's order: height, width, in, out; and inputs, units.
    weights[node.name] = [
      tf.transpose(w, node.op === 'conv' ? [2, 3, 1, 0] : [1, 0]),
      tf.tensor(tensors[`${node.name}.bias`].values),
    ];
  }
  const steps = {
    conv: (node, x) => {
      const [filter, bias] = weights[node.name];
      const { stride: strides, padding: pad, relu } = node;
      return tf.fused.conv2d({
        x,
        filter,
        strides,
        pad,
        dimRoundingMode: 'floor',
        bias,
        activation: relu ? 'relu' : 'linear',
      });
    },
    max_pool: (node, x) => tf.maxPool(x, node.size, node.size, 'valid'),
    dense: (node, x) => {
      const [b, bias] = weights[node.name];
      const y = tf.fused.matMul({ a: tf.reshape(x, [1, -1]), b, bias, activation: node.relu ? 'relu' : 'linear' });
      return tf.reshape(y, [1, 1, 1, node.units]);
    },
    dropout: (node, x) => x,
    add: (node, x, y) => (node.relu ? tf.relu(tf.add(x, y)) : tf.add(x, y)),
    upsample: (node, x) => tf.image.resizeNearestNeighbor(x, [2 * x.shape[1], 2 * x.shape[2]]),
    mean_pool: (node, x) => tf.mean(x, [1, 2], true),
    soft_argmax: (node, x) => {
      const [, h, w, c] = x.shape;
      const p = tf.softmax(tf.transpose(tf.reshape(x, [h * w, c])));
      const at = (i, n) => (2 * i + 1) / n - 1;
      places ??= tf.keep(
        tf.tensor2d(Array.from({ length: h * w }, (_, i) => [at(i % w, w), at(Math.floor(i / w), h)])),
      );
      return tf.matMul(p, places);
    },
  };
  let places;
  const half = SIDE / 2;
  const offset = graph.nodes[graph.keypoints].op === 'soft_argmax' ? half - 0.5 : half;
  return () =>
    tf.tidy(() => {
      const done = [];
      for (const node of graph.nodes) {
        if (node.op === 'input') done.push(tf.tensor4d(input, [1, SIDE, SIDE, 1]));
        else if (steps[node.op]) done.push(steps[node.op](node, ...node.inputs.map((i) => done[i])));
        else throw new Error(`step '${node.name}': no '${node.op}' in page.js`);
      }
      // Both outputs are computed, as in the other runtimes.
      if (graph.presence !== null) done[graph.presence].dataSync();
      return done[graph.keypoints].dataSync().map((v) => v * half + offset);
    });
}

/** The glue of a face96 wasm, as a separate module for each file, because a module holds one instance. */
async function face96(glue, wasm) {
  const module = await import(glue);
  await module.default({ module_or_path: await fetchBytes(wasm) });
  return module;
}

/** A face of 96 x 96 RGBA pixels. */
function drawnFace(module) {
  const face = new module.SyntheticFace(3, SIDE, SIDE);
  const rgba = face.draw(0);
  face.free();
  return rgba;
}

/** Runtimes by the name of the net, all ours. */
export async function loadOurs(nets, { glue, wasm }) {
  const module = await face96(glue, wasm);
  const rgba = drawnFace(module);
  const runtimes = {};
  for (const net of nets) {
    const detector = new module.Detector(await fetchBytes(`/target/bench/${net}.safetensors`));
    runtimes[net] = () => detector.detect(rgba);
  }
  return runtimes;
}

/**
 * Loads a net into every runtime; throws if one of them disagrees.
 * @param {string} net
 * @param {Record<string, { glue: string, wasm: string }>} builds of face96: `face96`, the one that a page would choose,
 *   others, and `candle`
 */
export async function load(net, builds) {
  const bytes = await fetchBytes(`/target/bench/${net}.safetensors`);
  const { graph, multiplyAdds } = await (await fetch(`/target/bench/${net}.graph.json`)).json();
  const { metadata, tensors } = readSafetensors(bytes);
  const runtimes = {};
  const limits = {};
  let profile;
  let input;
  for (const [name, { glue, wasm }] of Object.entries(builds)) {
    const module = await face96(glue, wasm);
    if (!input) {
      const rgba = drawnFace(module);
      input = { rgba, values: normalised(rgba, JSON.parse(metadata.normalisation)) };
    }
    if (name === 'candle') {
      const model = new module.CandleNet(bytes);
      profile = () => JSON.parse(module.profile(bytes, 50));
      runtimes[name] = () => model.run(input.values);
    } else {
      const detector = new module.Detector(bytes);
      // From RGBA on, as a page calls it: grey conversion and normalisation are in our time and in no other's.
      runtimes[name] = () => detector.detect(input.rgba);
      limits[name] = (steps) => module.multiplyAdds(steps);
    }
  }
  runtimes['onnxruntime-web'] = await onnxruntime(net, input.values);
  runtimes['tfjs-wasm'] = await tfjs(graph, tensors, input.values);

  const ours = runtimes.face96().slice(1);
  const expected = Array.from({ length: (ours.length / 3) * 2 }, (_, i) => ours[3 * (i >> 1) + (i % 2)]);
  let worst = 0;
  for (const [name, run] of Object.entries(runtimes)) {
    let found = await run();
    if (name.startsWith('face96')) found = expected.map((_, i) => found[1 + 3 * (i >> 1) + (i % 2)]);
    const apart = Math.max(...expected.map((v, i) => Math.abs(v - found[i])));
    // 1e-3 of half the crop's side, which is the net's unit.
    if (!(apart < 1e-3 * (SIDE / 2)) || found.length !== expected.length) {
      throw new Error(
        `${net}: ${name} is ${apart} px from face96; its first keypoint is ${found.slice(0, 2)}, ours ${expected.slice(0, 2)}`,
      );
    }
    worst = Math.max(worst, apart);
  }
  return { runtimes, limits, multiplyAdds, worst, profile };
}

/**
 * Milliseconds of each frame by runtime, taken in turns, and multiply-adds a second on registers alone.
 * @param {Pick<Awaited<ReturnType<typeof load>>, 'runtimes'> & { limits?: Record<string, (steps: number) => void> }} net
 */
export async function time({ runtimes, limits = {} }, rounds, frames) {
  const names = Object.keys(runtimes);
  const times = Object.fromEntries(names.map((name) => [name, []]));
  const rates = Object.fromEntries(Object.keys(limits).map((name) => [name, []]));
  for (const name of names) for (let i = 0; i < 10; i++) await runtimes[name]();
  for (let round = 0; round < rounds; round++) {
    // Each round begins with another runtime, so that none always follows the same one.
    for (let k = 0; k < names.length; k++) {
      const name = names[(round + k) % names.length];
      for (let i = 0; i < frames; i++) {
        const start = performance.now();
        await runtimes[name]();
        times[name].push(performance.now() - start);
      }
    }
    for (const [name, run] of Object.entries(limits)) {
      const steps = 200_000;
      const start = performance.now();
      run(steps);
      rates[name].push((48 * steps) / ((performance.now() - start) / 1000));
    }
    // A pause for the browser's own work.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return { times, rates };
}
