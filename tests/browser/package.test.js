// The package by itself: its contract, its queue and its errors.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fewerKeypoints, program, root, suite, temporaryFolder, test, weightsPath } from './harness.js';

/** @type {import('playwright-core').Page} */
let page;
const shared = suite({
  async ready() {
    page = await shared.browser.newPage();
    await page.goto(`${shared.url}pkg/package.json`);
    await page.evaluate(async () => {
      const { createDetector, guideBox } = await import('/pkg/index.js');
      const { createSyntheticFace } = await import('/pkg/synthetic.js');
      const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
      /** How a promise ends, as something that leaves the page. */
      const outcome = (promise) =>
        promise.then(
          () => 'done',
          (error) => error.code ?? String(error),
        );
      Object.assign(globalThis, { createDetector, guideBox, face, outcome });
    });
  },
});

test('imports in Node without a DOM', async () => {
  const face96 = await import(join(root, 'pkg/index.js'));
  assert.deepEqual(Object.keys(face96).sort(), ['Face96Error', 'FaceDetector', 'createDetector', 'guideBox', 'isHeic']);
  assert.deepEqual(face96.guideBox(640, 480), { x: 319.5, y: 239.5, size: 288, roll: 0 });
  await import(join(root, 'pkg/synthetic.js'));
});

test('every kind of source gives the same keypoints, in the worker and without', async () => {
  const results = await page.evaluate(async () => {
    const data = face.draw(0);
    const box = face.box(0);
    const canvas = new OffscreenCanvas(data.width, data.height);
    canvas.getContext('2d').putImageData(data, 0, 0);
    const image = new Image();
    image.src = URL.createObjectURL(await canvas.convertToBlob({ type: 'image/png' }));
    // A policy without img-src blob: leaves images out; they are then tested as a bitmap, like the rest.
    const decoded = await image.decode().then(
      () => true,
      () => false,
    );
    const sources = [data, canvas, await createImageBitmap(data), ...(decoded ? [image] : [])];
    const results = [];
    for (const worker of [true, false]) {
      const detector = await createDetector({ worker });
      if (detector.runsIn !== (worker ? 'worker' : 'main')) throw new Error(`it runs in ${detector.runsIn}`);
      for (const source of sources) results.push((await detector.detect(source, { box })).faces);
      const frame = new VideoFrame(canvas, { timestamp: 0 });
      // YUV rounding: the same to a fraction of a pixel only, so it is only required to work.
      if ((await detector.detect(frame, { box })).faces.length !== 1) throw new Error('no face in the VideoFrame');
      frame.close();
      detector.close();
    }
    return results;
  });
  for (const faces of results) {
    assert.equal(faces.length, 1);
    assert.deepEqual(faces, results[0]);
  }
});

test('a camera frame, read as luma, gives the keypoints of the same picture in colours', async () => {
  const { worst, stretched } = await page.evaluate(async () => {
    const detector = await createDetector({ worker: false });
    let worst = 0;
    const { width, height } = face.draw(0);
    const frameOf = ({ data }, fullRange, format, options) => {
      const planes = new Uint8Array((width * height * 3) / 2).fill(128);
      for (let p = 0; p < width * height; p++) {
        const luma = 0.299 * data[4 * p] + 0.587 * data[4 * p + 1] + 0.114 * data[4 * p + 2];
        planes[p] = Math.round(fullRange ? luma : 16 + (luma * 219) / 255);
      }
      const colorSpace = { fullRange, matrix: 'smpte170m', primaries: 'smpte170m', transfer: 'smpte170m' };
      return new VideoFrame(planes, {
        format,
        codedWidth: width,
        codedHeight: height,
        timestamp: 0,
        colorSpace,
        ...options,
      });
    };
    for (const [seconds, roll] of [
      [0, 0],
      [1, 0.3],
      [2, -0.5],
    ]) {
      const picture = face.draw(seconds);
      const box = { ...face.box(seconds), roll };
      const want = (await detector.detect(picture, { box })).faces[0].keypoints;
      for (const fullRange of [true, false]) {
        for (const format of ['I420', 'NV12']) {
          const frame = frameOf(picture, fullRange, format);
          const got = (await detector.detect(frame, { box })).faces[0].keypoints;
          frame.close();
          got.forEach(
            (p, k) => (worst = Math.max(worst, (96 / box.size) * Math.hypot(p.x - want[k].x, p.y - want[k].y))),
          );
        }
      }
    }
    // One that must be stretched to be shown is drawn.
    const frame = frameOf(face.draw(0), true, 'I420', { displayWidth: 160, displayHeight: 120 });
    const half = (v) => (v + 0.5) / 2 - 0.5;
    const { x, y, size, roll } = face.box(0);
    const [small] = (await detector.detect(frame, { box: { x: half(x), y: half(y), size: size / 2, roll } })).faces;
    frame.close();
    const want = face.keypoints(0);
    detector.close();
    return {
      worst,
      stretched: Math.max(...small.keypoints.map((p, k) => Math.hypot(p.x - half(want[k].x), p.y - half(want[k].y)))),
    };
  });
  assert.ok(worst < 0.7, `they differ by ${worst} px of 96`);
  assert.ok(stretched < 6, `a stretched frame is off by ${stretched} px`);
});

test('the result has the documented shape', async () => {
  const { detection, info } = await page.evaluate(async () => {
    const detector = await createDetector();
    const detection = await detector.detect(face.draw(0), { box: face.box(0) });
    const { info } = detector;
    detector.close();
    return { detection, info };
  });
  assert.equal(info.inputSize, 96);
  const [face] = detection.faces;
  const { score, box, keypoints, pose, mouthOpen, eyes, mouth, brows, events, trackId } = face;
  assert.deepEqual(Object.keys(face), [
    'score',
    'box',
    'keypoints',
    'pose',
    'mouthOpen',
    'eyes',
    'mouth',
    'brows',
    'events',
    'trackId',
  ]);
  assert.deepEqual(Object.keys(pose), ['yaw', 'pitch', 'roll', 'matrix', 'distance']);
  assert.deepEqual([eyes, events], [{ left: null, right: null }, []], '15 points tell nothing of the lids');
  for (const [part, names] of [
    [mouth, ['open', 'wide', 'confidence']],
    [brows.left, ['raise', 'confidence']],
    [brows.right, ['raise', 'confidence']],
  ]) {
    assert.deepEqual(Object.keys(part), names);
    for (const name of names) assert.ok(part[name] >= 0 && part[name] <= 1, `${name} is ${part[name]}`);
  }
  assert.ok(mouthOpen > 0.05 && mouthOpen < 1, `mouthOpen ${mouthOpen}`);
  assert.equal(trackId, null, 'a given box is one look');
  assert.ok(score >= 0 && score <= 1);
  assert.deepEqual(Object.keys(box), ['x', 'y', 'size', 'roll']);
  assert.deepEqual(
    keypoints.map((k) => k.name),
    info.schema.keypoints,
  );
  for (const k of keypoints) assert.deepEqual(Object.keys(k), ['name', 'x', 'y', 'confidence']);
  assert.deepEqual(Object.keys(detection), ['faces', 'frame', 'timings']);
  assert.deepEqual(Object.keys(detection.timings), ['capture', 'crop', 'find', 'net', 'total']);
});

test('the crop that a net looked at comes with the face, where it is asked for', async () => {
  const { off, plain, unasked, followed } = await page.evaluate(async () => {
    const detector = await createDetector({ maxFaces: 2 });
    // A square whose pixels are those of the crop.
    const box = { ...face.box(0), roll: 0, size: 96 };
    [box.x, box.y] = [Math.floor(box.x) + 0.5, Math.floor(box.y) + 0.5];
    const picture = face.draw(0);
    const [{ crop }] = (await detector.detect(picture, { box, crops: true })).faces;
    let off = 0;
    for (let y = 0; y < 96; y++) {
      for (let x = 0; x < 96; x++) {
        const at = 4 * ((box.y - 47.5 + y) * picture.width + box.x - 47.5 + x);
        const [red, green, blue] = picture.data.subarray(at, at + 3);
        off = Math.max(off, Math.abs(crop[y * 96 + x] - (0.299 * red + 0.587 * green + 0.114 * blue)));
      }
    }
    const [unasked] = (await detector.detect(picture, { box })).faces;
    // Two faces beside each other, the darker one right, followed for a while: each comes with its own crop.
    const both = new OffscreenCanvas(2 * picture.width, picture.height).getContext('2d');
    const bitmap = await createImageBitmap(picture);
    both.drawImage(bitmap, 0, 0);
    both.filter = 'brightness(0.5)';
    both.drawImage(bitmap, 1.2 * picture.width, 0.2 * picture.height, 0.8 * picture.width, 0.8 * picture.height);
    let faces = [];
    for (let i = 0; i < 12; i++)
      ({ faces } = await detector.detect(both.canvas, { timestamp: 40 * i, crops: i === 11 }));
    detector.close();
    const followed = faces.map(({ box, crop }) => ({
      left: box.x < picture.width,
      mean: crop.reduce((a, b) => a + b) / crop.length,
    }));
    return { off, plain: [crop.constructor.name, crop.length], unasked: 'crop' in unasked, followed };
  });
  assert.deepEqual(plain, ['Uint8Array', 96 * 96]);
  // Video frames have luma of their own, pictures by way of colours are rounded twice.
  assert.ok(off <= 2, `${off} grey levels`);
  assert.equal(unasked, false);
  assert.equal(followed.length, 2);
  const [bright, dark] = [true, false].map((left) => followed.find((face) => face.left === left).mean);
  assert.ok(dark < 0.7 * bright, `means of ${bright} and ${dark}`);
});

test('what comes with a timestamp is followed, a picture by itself is not', async () => {
  const { ids, still, again, off } = await page.evaluate(async () => {
    const detector = await createDetector();
    const ids = [];
    for (let frame = 0; frame < 10; frame++) {
      const { faces } = await detector.detect(face.draw(frame / 30), { timestamp: (1000 * frame) / 30 });
      ids.push(...faces.map((f) => f.trackId));
    }
    const { faces: still } = await detector.detect(face.draw(0.35));
    const want = face.keypoints(0.35);
    const distances = still[0].keypoints.map((p, k) => Math.hypot(p.x - want[k].x, p.y - want[k].y));
    detector.reset();
    const { faces: again } = await detector.detect(face.draw(0.4), { timestamp: 400 });
    detector.close();
    return {
      ids,
      still: still.map((f) => f.trackId),
      again: again.map((f) => f.trackId),
      off: distances.reduce((a, b) => a + b) / distances.length,
    };
  });
  assert.deepEqual(ids, Array(10).fill(1));
  assert.deepEqual(still, [null]);
  assert.deepEqual(again, [2], 'after reset() it is another track');
  assert.ok(off < 4, `a still picture is ${off} px off`);
});

test('head pose follows the drawn head, in radians, positive to the left of the subject', async () => {
  const poses = await page.evaluate(async () => {
    const detector = await createDetector();
    const poses = [];
    // The sample turns by 16 sin(2 pi t / 7.3) + 5 sin(2 pi (t / 3.1 + 0.3)) degrees.
    for (const t of [1.8, 5.5]) {
      const { faces } = await detector.detect(face.draw(t));
      const turn = (s, period, phase) => s * Math.sin(2 * Math.PI * (t / period + phase));
      poses.push({ got: (faces[0].pose.yaw * 180) / Math.PI, want: turn(16, 7.3, 0) + turn(5, 3.1, 0.3) });
    }
    detector.close();
    return poses;
  });
  for (const { got, want } of poses) assert.ok(Math.abs(got - want) < 8, `yaw ${got} degrees, drawn ${want}`);
});

test('the head matrix puts the head on the picture, and the distance follows the size', async () => {
  const { face, want } = await page.evaluate(async () => {
    const detector = await createDetector();
    const { faces } = await detector.detect(face.draw(1.8), { box: face.box(1.8) });
    detector.close();
    return { face: faces[0], want: face.keypoints(1.8) };
  });
  const { matrix, yaw, distance } = face.pose;
  const place = ([x, y, z]) =>
    [0, 1].map((c) => matrix[c] * x + matrix[4 + c] * y + matrix[8 + c] * z + matrix[12 + c]);
  const width = Math.hypot(...matrix.slice(0, 3));
  // In widths of the face: outer corners lie on the x axis, 1 / 1.55 apart, and the nose stands out, below the eyes.
  for (const [k, point] of [
    [3, [0.5 / 1.55, 0, 0]],
    [5, [-0.5 / 1.55, 0, 0]],
    [10, [0, 0.25, 0.32]],
  ]) {
    const [x, y] = place(point);
    assert.ok(
      Math.hypot(x - want[k].x, y - want[k].y) < 0.06 * width,
      `${k}: ${x}, ${y}, not ${JSON.stringify(want[k])}`,
    );
  }
  const axes = [0, 4, 8].map((at) => matrix.slice(at, at + 3));
  for (const [a, axis] of axes.entries()) {
    for (const [b, other] of axes.entries()) {
      const dot = axis.reduce((sum, v, i) => sum + v * other[i], 0) / width ** 2;
      assert.ok(Math.abs(dot - (a === b ? 1 : 0)) < 1e-5, 'right-angled, and of one length');
    }
  }
  // To the subject's left is to the right of the picture: so points the face.
  assert.ok(Math.sign(matrix[8]) === Math.sign(yaw) && Math.abs(yaw) > 0.15, `${matrix[8]} and ${yaw}`);
  assert.ok(Math.abs(distance - 320 / width) < 1e-4);
  assert.deepEqual(
    [3, 7, 11, 14, 15].map((i) => matrix[i]),
    [0, 0, 0, 0, 1],
  );
});

test('smoothing can be set, changed and turned off; odd options are refused', async () => {
  const [jitters, refused] = await page.evaluate(async () => {
    const noisy = (seed) => {
      const picture = face.draw(0);
      let state = seed + 1;
      for (let i = 0; i < picture.data.length; i++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        if (i % 4 !== 3) picture.data[i] += ((state >>> 24) - 128) / 12;
      }
      return picture;
    };
    /** Mean square of a point's steps. */
    const jitter = async (detector, from) => {
      const xs = [];
      for (let i = from; i < from + 25; i++) {
        xs.push((await detector.detect(noisy(i), { timestamp: (1000 * i) / 30 })).faces[0].keypoints[10].x);
      }
      return xs.slice(10).reduce((sum, x, i) => sum + (x - xs[9 + i]) ** 2, 0);
    };
    const detector = await createDetector();
    const on = await jitter(detector, 0);
    detector.configure({ smoothing: 0 });
    const off = await jitter(detector, 25);
    detector.configure({ smoothing: { minCutoff: 0.2 } });
    const calm = await jitter(detector, 50);
    detector.close();
    const refused = [];
    for (const options of [
      { smoothing: -1 },
      { smoothing: { beta: NaN } },
      { maxFaces: 0 },
      { minScore: 2 },
      { maxFaces: 1.5 },
    ]) {
      refused.push(await outcome(createDetector(options)));
    }
    return [{ on, off, calm }, refused];
  });
  assert.ok(jitters.on < 0.3 * jitters.off, JSON.stringify(jitters));
  assert.ok(jitters.calm < jitters.on, JSON.stringify(jitters));
  assert.deepEqual(refused, Array(5).fill('bad-option'));
});

test('detectors of the same files share one worker, each with its own tracks', { needs: 'workers' }, async (t) => {
  const own = await shared.browser.newPage();
  t.after(() => own.close());
  await own.goto(page.url());
  const ids = await own.evaluate(async () => {
    const { createDetector } = await import('/pkg/index.js');
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
    const [a, b] = (globalThis.pair = await Promise.all([createDetector(), createDetector({ maxFaces: 2 })]));
    const id = async (detector, timestamp) => (await detector.detect(face.draw(0), { timestamp })).faces[0].trackId;
    await id(a, 0);
    a.reset();
    return [await id(a, 100), await id(b, 0)];
  });
  assert.deepEqual(ids, [2, 1]);
  assert.equal(own.workers().length, 1);
  await own.evaluate(() => pair[0].close());
  assert.equal(own.workers().length, 1);
  const gone = new Promise((resolve) => own.workers()[0].once('close', resolve));
  await own.evaluate(() => pair[1].close());
  await gone;
});

test('a long-lived signal keeps nothing of a closed detector', async () => {
  const counts = await page.evaluate(async () => {
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...args) => (listeners++, addEventListener.apply(signal, args));
    signal.removeEventListener = (...args) => (listeners--, removeEventListener.apply(signal, args));
    const counts = [];
    for (const worker of [true, false]) {
      const detector = await createDetector({ signal, worker });
      counts.push(listeners);
      detector.close();
      counts.push(listeners);
    }
    return counts;
  });
  assert.deepEqual(counts, [1, 0, 1, 0]);
});

test('weights of another schema work: names come from the file', async (t) => {
  const own = await shared.browser.newPage();
  t.after(() => own.close());
  await own.route('**/four.safetensors', (route) => route.fulfill({ body: fewerKeypoints(4) }));
  await own.goto(page.url());
  const { names, pose, mouthOpen, mouth, brows, tracks } = await own.evaluate(async () => {
    const { createDetector } = await import('/pkg/index.js');
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
    const detector = await createDetector({ weightsUrl: '/four.safetensors' });
    const tracks = [];
    let last;
    for (let i = 0; i < 5; i++) {
      [last] = (await detector.detect(face.draw(i / 30), { timestamp: (1000 * i) / 30 })).faces;
      tracks.push(last.trackId);
    }
    detector.close();
    return {
      names: last.keypoints.map((k) => k.name),
      pose: last.pose,
      mouthOpen: last.mouthOpen,
      mouth: last.mouth,
      brows: last.brows,
      tracks,
    };
  });
  assert.deepEqual(names, ['left_eye_center', 'right_eye_center', 'left_eye_inner_corner', 'left_eye_outer_corner']);
  assert.deepEqual([pose, mouthOpen, mouth, brows], [null, null, null, { left: null, right: null }]);
  assert.deepEqual(tracks, [1, 1, 1, 1, 1]);
});

test('a 0x0 frame is refused, by the package and by the wasm', async () => {
  const [video, canvas, bytes] = await page.evaluate(async () => {
    const detector = await createDetector();
    const video = await outcome(detector.detect(document.createElement('video')));
    const canvas = await outcome(detector.detect(Object.assign(document.createElement('canvas'), { width: 0 })));
    // After the errors the queue still runs.
    await detector.detect(face.draw(0));
    detector.close();
    const { Detector } = await import('/pkg/dist/face96.js');
    const weights = new Uint8Array(await (await fetch('/pkg/weights/compact.safetensors')).arrayBuffer());
    const raw = new Detector(weights);
    let bytes = 'no error';
    try {
      raw.detect(new Uint8Array(0));
    } catch (error) {
      bytes = String(error);
    }
    raw.free();
    return [video, canvas, bytes];
  });
  assert.equal(video, 'empty-frame');
  assert.equal(canvas, 'empty-frame');
  assert.match(bytes, /Error: .*36864/, 'the message names the length it expects');
});

test('no frame jams the queue', async () => {
  const outcomes = await page.evaluate(async () => {
    const detector = await createDetector();
    const frame = face.draw(0);
    const bitmap = await createImageBitmap(frame);
    bitmap.close();
    const outcomes = [await outcome(detector.detect(bitmap)), await outcome(detector.detect(frame))];
    detector.close();
    return outcomes;
  });
  assert.deepEqual(outcomes, ['bad-frame', 'done']);
});

test('close() and abort during detect() reject it at once, and what comes after', async () => {
  const outcomes = await page.evaluate(async () => {
    const frame = face.draw(0);
    const closing = await createDetector();
    const calls = [outcome(closing.detect(frame)), outcome(closing.detect(frame))];
    closing.close();
    closing.close();
    const controller = new AbortController();
    const aborted = await createDetector({ signal: controller.signal, worker: false });
    calls.push(outcome(aborted.detect(frame)));
    controller.abort();
    return Promise.all([...calls, outcome(closing.detect(frame)), outcome(aborted.detect(frame))]);
  });
  assert.deepEqual(outcomes, ['closed', 'closed', 'aborted', 'closed', 'aborted']);
});

test('abort during loading rejects, with and without a worker', async () => {
  const outcomes = await page.evaluate(async () => {
    const outcomes = [];
    for (const worker of [true, false]) {
      // Before anything was fetched, and while files arrive: at moments of the loading, not after times that may be too long.
      for (const moment of ['call', 'progress']) {
        const controller = new AbortController();
        const onProgress = () => moment === 'progress' && controller.abort();
        const promise = outcome(createDetector({ worker, signal: controller.signal, onProgress }));
        if (moment === 'call') controller.abort();
        outcomes.push(await promise);
      }
      outcomes.push(await outcome(createDetector({ worker, signal: AbortSignal.abort() })));
    }
    return outcomes;
  });
  for (const outcome of outcomes) assert.equal(outcome, 'aborted');
});

test('failed loading names code and address, and a second try works', async () => {
  const outcomes = await page.evaluate(async () => {
    const tell = (promise) => promise.catch((error) => `${error.code}: ${error.message}`);
    return [
      await tell(createDetector({ weightsUrl: '/pkg/weights/none.safetensors' })),
      await tell(createDetector({ wasmUrl: '/pkg/dist/none.wasm' })),
      await tell(createDetector({ weightsUrl: '/pkg/package.json' })),
      await tell(createDetector({ finderUrl: '/pkg/weights/none.safetensors' })),
      await tell(createDetector({ finderUrl: '/pkg/package.json' })),
      await tell(createDetector({ maxFaces: 5 })),
      await outcome(createDetector().then((d) => d.close())),
    ];
  });
  assert.match(outcomes[0], /^weights-fetch: .*\/pkg\/weights\/none\.safetensors.* 404/);
  assert.match(outcomes[1], /^wasm-fetch: .*\/pkg\/dist\/none\.wasm.* 404/);
  assert.match(outcomes[2], /^weights-invalid: .*\/pkg\/package\.json/);
  assert.match(outcomes[3], /^weights-fetch: .*\/pkg\/weights\/none\.safetensors.* 404/);
  assert.match(outcomes[4], /^weights-invalid: .*\/pkg\/package\.json/);
  assert.match(outcomes[5], /^bad-option: /);
  assert.equal(outcomes[6], 'done');
});

test('progress reaches the size of both files', async () => {
  const last = await page.evaluate(async () => {
    const last = {};
    const detector = await createDetector({ onProgress: ({ part, loaded }) => (last[part] = loaded) });
    detector.close();
    return last;
  });
  assert.equal(last.weights, readFileSync(weightsPath).length);
  assert.equal(last.finder, readFileSync(join(root, 'pkg/weights/finder.safetensors')).length);
  assert.equal(last.wasm, readFileSync(join(root, 'pkg/dist/face96_relaxed_bg.wasm')).length);
});

test('a crashed worker is told and replaced once', { needs: 'workers' }, async (t) => {
  const own = await shared.browser.newPage();
  t.after(() => own.close());
  await own.goto(page.url());
  await own.evaluate(async () => {
    const { createDetector } = await import('/pkg/index.js');
    globalThis.detector = await createDetector();
    globalThis.frame = new ImageData(64, 64);
    globalThis.detect = () =>
      detector.detect(frame).then(
        () => 'done',
        (error) => error.code,
      );
  });
  const crash = async () => {
    const [worker] = own.workers();
    const gone = new Promise((resolve) => worker.once('close', resolve));
    await worker.evaluate(
      () =>
        void setTimeout(() => {
          throw new Error('made by the test');
        }),
    );
    await gone;
  };
  await crash();
  assert.equal(await own.evaluate(() => globalThis.detect()), 'done');
  await crash();
  assert.equal(await own.evaluate(() => globalThis.detect()), 'worker-crashed');
});

test('a wasm trap without a worker is told, forgiven once, and leaves other detectors working', async (t) => {
  const own = await shared.browser.newPage();
  t.after(() => own.close());
  await own.goto(page.url());
  const seen = await own.evaluate(async () => {
    const { createDetector } = await import('/pkg/index.js');
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const { default: init, Tracker } = await import('/pkg/dist/face96.js');
    const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
    const picture = face.draw(0);
    const [one, other] = [
      await createDetector({ worker: false }),
      await createDetector({ worker: false, finderUrl: false }),
    ];
    const detect = (detector) =>
      detector.detect(picture).then(
        ({ faces }) => faces.length,
        ({ code, message }) => `${code}: ${message}`,
      );
    const seen = [await detect(one), await detect(other)];
    /** Lets the next frame trap: a real one, by an address outside of the memory. */
    const trap = async () => {
      const exports = await init();
      const { look } = Tracker.prototype;
      Tracker.prototype.look = function () {
        Tracker.prototype.look = look;
        exports.detector_forward(0xfffffff0, 1);
      };
    };
    await trap();
    seen.push(await detect(one), await detect(one), await detect(other), await detect(other));
    await trap();
    seen.push(await detect(one), await detect(one));
    one.close();
    other.close();
    face.close();
    const fresh = await createDetector({ worker: false });
    seen.push(await detect(fresh));
    fresh.close();
    return seen;
  });
  t.diagnostic(JSON.stringify(seen));
  const [first, second, trapped, again, beside, besideAgain, trappedAgain, twice, fresh] = seen;
  assert.deepEqual([first, second], [1, 1]);
  assert.match(trapped, /^wasm-crashed: The wasm stopped: /);
  assert.equal(again, 1, 'it starts afresh by itself');
  assert.deepEqual([beside, besideAgain], [1, 1], 'so does one that shared the instance');
  assert.match(trappedAgain, /^wasm-crashed: /);
  assert.equal(twice, 'wasm-crashed: The wasm stopped twice; create a new detector.');
  assert.equal(fresh, 1);
});

test('the crop is close to an exact area average at every scale', async (t) => {
  const errors = await page.evaluate(async () => {
    const { Cropper } = await import('/pkg/crop.js');
    const [width, height, side] = [1200, 1200, 96];
    // Noise is the hardest case: all of it lies above what the small picture can hold.
    const picture = new ImageData(width, height);
    let state = 1;
    for (let i = 0; i < picture.data.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      picture.data[i] = i % 4 === 3 ? 255 : state >>> 24;
    }
    const bitmap = await createImageBitmap(picture);
    const cropper = new Cropper(side);
    const errors = {};
    for (const size of [96, 192, 288, 432, 700, 1080]) {
      const box = { x: 599.5, y: 599.5, size, roll: 0 };
      const got = cropper.crop(bitmap, box).data;
      let sum = 0;
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
          const want = average(
            picture,
            600 - size / 2 + (x * size) / side,
            600 - size / 2 + (y * size) / side,
            size / side,
          );
          sum += (got[(y * side + x) * 4] - want) ** 2;
        }
      }
      errors[size] = Math.sqrt(sum) / side;
    }
    return errors;

    /** Mean of the red channel over the square from (x0, y0) to (x0 + s, y0 + s), pixels weighted by their share. */
    function average({ data, width }, x0, y0, s) {
      let sum = 0;
      for (let y = Math.floor(y0); y < y0 + s; y++) {
        const wy = Math.min(y + 1, y0 + s) - Math.max(y, y0);
        for (let x = Math.floor(x0); x < x0 + s; x++) {
          sum += wy * (Math.min(x + 1, x0 + s) - Math.max(x, x0)) * data[(y * width + x) * 4];
        }
      }
      return sum / s ** 2;
    }
  });
  t.diagnostic(`rms difference on noise (grey levels, box size in px): ${JSON.stringify(errors)}`);
  // Noise has a standard deviation of 74 grey levels; a draw that skips pixels is off by 20 and more.
  for (const [size, error] of Object.entries(errors)) assert.ok(error < 10, `box of ${size} px: ${error}`);
});

test('native and wasm agree on the same crop to 1e-3 of its side', async (t) => {
  const folder = temporaryFolder(t);
  let worst = 0;
  for (let n = 0; n < 4; n++) {
    const { png, flat } = await page.evaluate(async (n) => {
      const { createSyntheticFace } = await import('/pkg/synthetic.js');
      const { Detector } = await import('/pkg/dist/face96.js');
      const face = await createSyntheticFace({ seed: 40 + n, width: 96, height: 96 });
      const picture = face.draw(n);
      face.close();
      const canvas = new OffscreenCanvas(96, 96);
      canvas.getContext('2d').putImageData(picture, 0, 0);
      const png = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
      const weights = new Uint8Array(await (await fetch('/pkg/weights/compact.safetensors')).arrayBuffer());
      const detector = new Detector(weights);
      const flat = [...detector.detect(picture.data)];
      detector.free();
      return { png: [...png], flat };
    }, n);
    const image = join(folder, `${n}.png`);
    const csv = join(folder, `${n}.csv`);
    writeFileSync(image, Buffer.from(png));
    execFileSync(program, ['predict', '--weights', weightsPath, '--data', image, '--crop', '--csv', csv], {
      stdio: 'pipe',
    });
    const wasm = Array.from({ length: (flat.length - 1) / 3 }, (_, k) => flat.slice(1 + 3 * k, 3 + 3 * k)).flat();
    const [header, row] = readFileSync(csv, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(',').slice(1, 1 + wasm.length));
    assert.ok(
      header.every((name) => /_[xy]$/.test(name)),
      `columns of points: ${header}`,
    );
    row.map(Number).forEach((value, i) => (worst = Math.max(worst, Math.abs(value - wasm[i]))));
  }
  t.diagnostic(`largest difference ${worst.toExponential(1)} px of 96`);
  assert.ok(worst <= 0.096, `they differ by ${worst} px of 96`);
});
