// The package's own logic, in Node: crops, faces, options, the queue of detect(), and the talk with a worker. Figures are by hand.
// `make mutants` counts how many changes of that logic these tests notice.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Cropper, LumaReader, guideBox } from '../../pkg/crop.js';
import { facesOf } from '../../pkg/faces.js';
import { Face96Error, createDetector } from '../../pkg/index.js';
import { createSyntheticFace } from '../../pkg/synthetic.js';

const near = (/** @type {number} */ found, /** @type {number} */ expected, why = '', by = 1e-6) =>
  assert.ok(Math.abs(found - expected) <= by, `${why}: ${found}, expected ${expected}`);
const allNear = (found, expected, why = '', by = 1e-6) => {
  assert.equal(found.length, expected.length, why);
  found.forEach((value, i) => near(value, expected[i], `${why} ${i}`, by));
};
const refused = (code, text) => (error) => {
  assert.ok(error instanceof Face96Error, String(error));
  assert.equal(error.code, code);
  if (text) assert.match(error.message, text);
  return true;
};

// ------------------------------------------------------------------------------------------------------ crop.js

test('the guide is centred in the frame, six tenths of its short side', () => {
  assert.deepEqual(guideBox(641, 480), { x: 320, y: 239.5, size: 288, roll: 0 });
  assert.deepEqual(guideBox(100, 300), { x: 49.5, y: 149.5, size: 60, roll: 0 });
});

/** A canvas that keeps what is done to it. */
class Canvas {
  static made = [];
  static answers = (pixel) => pixel;
  constructor(width, height) {
    Object.assign(this, { width, height, calls: [] });
    Canvas.made.push(this);
  }
  getContext(kind, options) {
    this.options = { kind, ...options };
    const context = { canvas: this, painted: [] };
    for (const name of ['setTransform', 'clearRect', 'drawImage'])
      context[name] = (...args) => {
        if (name === 'drawImage' && args[0].fault) throw args[0].fault;
        this.calls.push([name, ...args]);
      };
    context.fillRect = (x) => (context.painted[x] = context.fillStyle.match(/\d+/g).map(Number));
    context.getImageData = (x, y, width, height) => {
      this.calls.push(['getImageData', x, y, width, height]);
      const data = context.painted.slice(0, width).flatMap((pixel) => [...Canvas.answers(pixel), 255]);
      return { data, width, height };
    };
    return context;
  }
}

function withCanvas(t, answers = (pixel) => pixel) {
  globalThis.OffscreenCanvas = Canvas;
  Canvas.made = [];
  Canvas.answers = answers;
  t.after(() => delete globalThis.OffscreenCanvas);
}
const transforms = (canvas) => canvas.calls.filter(([name]) => name === 'setTransform').map(([, ...m]) => m);
const last = (list) => list[list.length - 1];

test('a box of the crop’s size is drawn in place, and outside of the frame is black', (t) => {
  withCanvas(t);
  const picture = { picture: true };
  const { width } = new Cropper(96).crop(picture, { x: 47.5, y: 47.5, size: 96, roll: 0 });
  assert.equal(width, 96);
  const [canvas, ...others] = Canvas.made;
  assert.deepEqual(others, []);
  assert.deepEqual([canvas.width, canvas.height], [96, 96]);
  assert.deepEqual(canvas.options, { kind: '2d', willReadFrequently: true, alpha: false });
  allNear(last(transforms(canvas)), [1, 0, 0, 1, 0, 0]);
  const names = canvas.calls.map(([name]) => name);
  assert.deepEqual(names.slice(-5), ['setTransform', 'clearRect', 'setTransform', 'drawImage', 'getImageData']);
  assert.deepEqual(
    canvas.calls.find(([name]) => name === 'clearRect'),
    ['clearRect', 0, 0, 96, 96],
  );
  allNear(canvas.calls.at(-5).slice(1), [1, 0, 0, 1, 0, 0]);
  assert.deepEqual(
    canvas.calls.find(([name]) => name === 'drawImage'),
    ['drawImage', picture, 0, 0],
  );
  assert.deepEqual(last(canvas.calls), ['getImageData', 0, 0, 96, 96]);
});

test('a turned box: the frame is moved so that the box’s corners are the crop’s', (t) => {
  withCanvas(t);
  new Cropper(10).crop({}, { x: 20, y: 30, size: 15, roll: Math.PI / 2 });
  const [a, b, c, d, e, f] = last(transforms(Canvas.made[0]));
  const place = (x, y) => [a * x + c * y + e, b * x + d * y + f];
  // In canvas coordinates the box's centre is at (20.5, 30.5); a quarter turn clockwise takes its right to the bottom.
  allNear(place(20.5, 30.5), [5, 5]);
  allNear(place(20.5, 38), [10, 5]);
  allNear(place(13, 30.5), [5, 10]);
});

test('large boxes are halved step by step, at most four times', (t) => {
  withCanvas(t);
  const cropper = new Cropper(96);
  const sides = (size) => {
    Canvas.made.forEach((canvas) => (canvas.calls.length = 0));
    cropper.crop({}, { x: 0, y: 0, size, roll: 0 });
    return Canvas.made.filter(({ calls }) => calls.length).map(({ width }) => width);
  };
  assert.deepEqual(sides(191), [96]);
  assert.deepEqual(sides(192), [96, 192]);
  assert.deepEqual(sides(40), [96]);
  assert.deepEqual(
    sides(500).sort((a, b) => a - b),
    [96, 192, 384],
  );
  assert.deepEqual(
    sides(96 * 64).sort((a, b) => a - b),
    [96, 192, 384, 768, 1536],
  );
  const halved = Canvas.made.find(({ width }) => width === 192).calls.find(([name]) => name === 'drawImage');
  assert.deepEqual(halved.slice(2), [0, 0, 192, 192]);
  assert.equal(halved[1].width, 384);
  allNear(transforms(Canvas.made.find(({ width }) => width === 192))[0], [1, 0, 0, 1, 0, 0]);
  // The largest canvas takes the frame itself.
  allNear(last(transforms(Canvas.made.find(({ width }) => width === 1536))), [0.25, 0, 0, 0.25, 767.875, 767.875]);
});

test('a canvas that returns other pixels than were drawn is told, once is enough', (t) => {
  withCanvas(t, (pixel) => pixel.map((v) => v + 8));
  const cropper = new Cropper(8);
  cropper.crop({}, { x: 0, y: 0, size: 8, roll: 0 });
  Canvas.answers = () => [255, 255, 255];
  cropper.crop({}, { x: 0, y: 0, size: 8, roll: 0 });
  for (const answer of [() => [255, 255, 255], ([r, g, b]) => [r, g, b + 9], ([r, g, b]) => [r - 9, g, b]]) {
    Canvas.answers = answer;
    assert.throws(() => new Cropper(8).crop({}, { x: 0, y: 0, size: 8, roll: 0 }), refused('canvas-blocked', /allow/));
  }
});

test('a picture that cannot be drawn is told, and the next one is drawn on fresh canvases', (t) => {
  withCanvas(t);
  const cropper = new Cropper(8);
  const box = { x: 0, y: 0, size: 8, roll: 0 };
  const fault = (name) => ({ fault: Object.assign(new Error('no luck'), { name }) });
  assert.throws(() => cropper.crop(fault('SecurityError'), box), refused('bad-frame', /another origin/));
  assert.throws(() => cropper.crop(fault('InvalidStateError'), box), refused('bad-frame', /cannot be read: no luck/));
  const before = Canvas.made.length;
  cropper.crop({}, box);
  assert.equal(Canvas.made.length, before + 1);
});

test('luma is read where the frame has it as it is shown, and nowhere else', async () => {
  const frame = (changes = {}) => ({
    format: 'NV12',
    visibleRect: { width: 4, height: 2 },
    displayWidth: 4,
    displayHeight: 2,
    colorSpace: { fullRange: true },
    allocationSize: () => 24,
    copyTo: async (bytes) => {
      bytes.forEach((_, i) => (bytes[i] = i));
      return [{ offset: 3, stride: 6 }];
    },
    ...changes,
  });
  const reader = new LumaReader();
  const { bytes, ...rest } = await reader.take(frame());
  assert.deepEqual(rest, { stride: 6, fullRange: true });
  assert.deepEqual([...bytes], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  const { buffer } = bytes;
  assert.equal((await reader.take(frame())).bytes.buffer, buffer, 'the buffer is kept');
  assert.notEqual((await reader.take(frame({ allocationSize: () => 25 }))).bytes.buffer, buffer);
  assert.equal((await reader.take(frame({ colorSpace: { fullRange: null } }))).fullRange, false);
  for (const changes of [
    { format: 'RGBA' },
    { format: null },
    { visibleRect: null },
    { displayWidth: 5 },
    { displayHeight: 3 },
    { rotation: 90 },
    { flip: true },
    { copyTo: async () => Promise.reject(new Error('gone')) },
  ])
    assert.equal(await reader.take(frame(changes)), null, JSON.stringify(changes));
  assert.equal(await reader.take({ width: 4, height: 2 }), null, 'a bitmap');
  const grey = { luma: new Uint8Array(8), width: 4, height: 2 };
  assert.deepEqual(await reader.take(grey), { bytes: grey.luma, stride: 4, fullRange: true });
});

// ----------------------------------------------------------------------------------------------------- faces.js

const NAMES = ['nose', 'chin'];
/** A face's numbers: track, score, box (x, y, size, roll), pose, mouth, head, width, events, expressions, keypoints. */
const flat = ({ expressions = Array(12).fill(NaN), yaw = 0, events = 0, track = 3, mouth = 0.3 } = {}) => [
  ...[track, 0.9, 50, 60, 40, 0.1],
  ...[yaw, 0, 0, mouth, 48, 58, 20, events],
  ...expressions,
  ...[1, 2, 0.5, 3, 4, 0.25],
];
const faces = (numbers, crops = []) => facesOf(Float32Array.from(numbers), NAMES, crops, { width: 200, height: 100 });

test('a face’s numbers become its box, keypoints and pose', () => {
  const [face, other, ...none] = faces([...flat(), ...flat({ track: 0, yaw: NaN, mouth: NaN })]);
  assert.deepEqual(none, []);
  near(face.score, 0.9);
  assert.deepEqual({ ...face.box, roll: Math.round(face.box.roll * 1e6) / 1e6 }, { x: 50, y: 60, size: 40, roll: 0.1 });
  assert.deepEqual(face.keypoints, [
    { name: 'nose', x: 1, y: 2, confidence: 0.5 },
    { name: 'chin', x: 3, y: 4, confidence: 0.25 },
  ]);
  assert.equal(face.trackId, 3);
  near(face.mouthOpen, 0.3);
  assert.equal(face.pose.distance, 10, 'the longer side over the width of the face');
  assert.ok(!('crop' in face));
  assert.deepEqual([other.trackId, other.pose, other.mouthOpen], [null, null, null]);
  assert.deepEqual(faces([]), []);
  assert.deepEqual(faces(flat().slice(1)), [], 'half a face is none');
});

test('the head’s matrix, by hand', () => {
  const matrix = (yaw, pitch, roll) => {
    const numbers = flat();
    numbers.splice(6, 3, yaw, pitch, roll);
    return faces(numbers)[0].pose;
  };
  allNear(matrix(0, 0, 0).matrix, [20, 0, 0, 0, 0, 20, 0, 0, 0, 0, 20, 0, 48, 58, 0, 1], 'straight');
  const quarter = Math.PI / 2;
  allNear(matrix(quarter, 0, 0).matrix.slice(0, 12), [0, 0, -20, 0, 0, 20, 0, 0, 20, 0, 0, 0], 'to the left', 1e-4);
  allNear(matrix(0, quarter, 0).matrix.slice(0, 12), [20, 0, 0, 0, 0, 0, 20, 0, 0, -20, 0, 0], 'up', 1e-4);
  allNear(matrix(0, 0, quarter).matrix.slice(0, 12), [0, 20, 0, 0, -20, 0, 0, 0, 0, 0, 20, 0], 'leaning', 1e-4);
  // Any turn keeps lengths and right angles.
  const { matrix: m, yaw, pitch, roll } = matrix(0.3, -0.2, 0.1);
  allNear([yaw, pitch, roll], [0.3, -0.2, 0.1]);
  const axes = [0, 4, 8].map((at) => m.slice(at, at + 3).map((v) => v / 20));
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  axes.forEach((a, i) => axes.forEach((b, j) => near(dot(a, b), i === j ? 1 : 0, `axes ${i} ${j}`, 1e-6)));
  const [[ax, ay, az], [bx, by, bz], c] = axes;
  allNear(c, [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], 'right-handed', 1e-6);
});

test('expressions are null where a number is missing, and events are bits', () => {
  const [none] = faces(flat());
  assert.deepEqual(
    [none.eyes, none.mouth, none.brows],
    [{ left: null, right: null }, null, { left: null, right: null }],
  );
  assert.deepEqual(none.events, []);
  const [all] = faces(flat({ expressions: [0.5, 0.25, 1, 0.75, 0, 1, 0.125, 0.5, 0.75, 0.5, 0.25, 1], events: 31 }));
  assert.deepEqual(all.eyes, { left: { open: 0.5, confidence: 0.25 }, right: { open: 1, confidence: 0.75 } });
  assert.deepEqual(all.mouth, { open: 0, wide: 0.125, confidence: 0.5 });
  assert.deepEqual(all.brows, { left: { raise: 0.75, confidence: 0.5 }, right: { raise: 0.25, confidence: 1 } });
  assert.deepEqual(all.events, ['blink', 'mouthopen', 'mouthclose', 'nod', 'shake']);
  const half = Array(12).fill(NaN);
  half.splice(6, 2, 0.5, 0.25);
  assert.deepEqual(faces(flat({ expressions: half }))[0].mouth, { open: null, wide: 0.5, confidence: 0.25 });
  half.splice(4, 4, 0.5, 0.75, NaN, 0.25);
  assert.deepEqual(faces(flat({ expressions: half }))[0].mouth, { open: 0.5, wide: null, confidence: 0.75 });
  assert.deepEqual(faces(flat({ events: 10 }))[0].events, ['mouthopen', 'nod']);
});

test('a face’s crop is the last one near its box', () => {
  const crop = (name, x, size) => ({ pixels: name, box: { x, y: 60, size, roll: 0 } });
  const of = (...crops) => faces(flat(), crops)[0].crop;
  assert.equal(of(crop('far', 90, 40), crop('near', 52, 40)), 'near');
  assert.equal(of(crop('near', 52, 40), crop('far', 90, 40)), 'near');
  assert.equal(of(crop('first', 50, 40), crop('second', 50, 40)), 'second');
  assert.equal(of(crop('double', 50, 80), crop('a little larger', 50, 44)), 'a little larger');
  assert.equal(of(crop('half', 50, 20), crop('moved by a tenth', 54, 40)), 'moved by a tenth');
  assert.equal(of(crop('ahead', 48, 40), crop('far to the left', -52, 40)), 'ahead');
  assert.equal(of({ pixels: 'below', box: { x: 50, y: 90, size: 40, roll: 0 } }, crop('moved', 54, 40)), 'moved');
});

// ----------------------------------------------------------------------------------------------------- index.js

test('options that cannot be meant are refused by name', async () => {
  for (const [options, text] of [
    [null, /options of a detector are null/],
    [7, /are 7/],
    [{ maxFaces: 0 }, /maxFaces is 0; expected 1 to 4/],
    [{ maxFaces: 5 }, /maxFaces is 5/],
    [{ minScore: -0.1 }, /minScore is -0.1/],
    [{ minScore: 1.1 }, /minScore is 1.1/],
    [{ minScore: '0.5' }, /minScore/],
    [{ smoothing: 'much' }, /smoothing is "much"/],
    [{ smoothing: -1 }, /smoothing is -1/],
    [{ smoothing: { beta: -1 } }, /smoothing is {"beta":-1}/],
    [{ smoothing: { minCutoff: NaN } }, /smoothing/],
    [{ smoothing: { dCutoff: Infinity } }, /smoothing/],
    [{ worker: 'no' }, /worker is 'no'; expected true or false/],
    [{ signal: {} }, /signal is Object; expected an AbortSignal/],
    [{ onProgress: 1 }, /onProgress is Number; expected a function/],
    [{ weights: 'a.safetensors' }, /weights is 'a.safetensors'; expected a Blob/],
    [{ weightsUrl: 5 }, /weightsUrl is Number; expected an address/],
    [{ wasmUrl: 'http://' }, /wasmUrl is 'http:\/\/'/],
    [{ finderUrl: {} }, /finderUrl is Object/],
  ])
    await assert.rejects(createDetector(options), refused('bad-option', text), JSON.stringify(options));
  await assert.rejects(createDetector({ signal: AbortSignal.abort() }), refused('aborted'));
});

/** A drawn face of 320x240 at a time in seconds. */
async function drawn(t) {
  const face = await createSyntheticFace({ seed: 5, width: 320, height: 240 });
  t.after(() => face.close());
  return face;
}

test('pictures are answered in their order; in a stream the newest frame wins', async (t) => {
  const face = await drawn(t);
  const detector = await createDetector();
  t.after(() => detector.close());
  assert.equal(detector.runsIn, 'main');
  const order = [];
  const stills = [0, 1, 2].map((i) => detector.detect(face.draw(i)).then(() => order.push(i)));
  await Promise.all(stills);
  assert.deepEqual(order, [0, 1, 2]);
  const frames = [0, 40, 80].map((timestamp) => detector.detect(face.draw(timestamp / 1000), { timestamp }));
  const [first, second, third] = await Promise.allSettled(frames);
  assert.deepEqual([first.status, third.status], ['fulfilled', 'fulfilled']);
  refused('superseded', /newer frame/)(second.reason);
  assert.equal(third.value.faces[0].trackId, 1);
  const { total, capture } = third.value.timings;
  assert.ok(capture >= 0 && total > 0 && capture <= total);
  // A still beside a stream is nobody's frame.
  const [frame, still] = await Promise.all([
    detector.detect(face.draw(0.12), { timestamp: 120 }),
    detector.detect(face.draw(0.12)),
  ]);
  assert.equal(frame.faces[0].trackId, 1);
  assert.equal(still.faces[0].trackId, null);
  assert.deepEqual(still.frame, { width: 320, height: 240 });
  detector.reset();
  const anew = await detector.detect(face.draw(0.16), { timestamp: 160 });
  assert.equal(anew.faces[0].trackId, 2, 'after a reset a face is new');
});

test('a given box is looked at as it is, and nonsense is refused', async (t) => {
  const face = await drawn(t);
  const detector = await createDetector({ finderUrl: false });
  t.after(() => detector.close());
  const picture = face.draw(0);
  const box = face.box(0);
  const { faces: found } = await detector.detect(picture, { box, crops: true });
  assert.deepEqual([found.length, found[0].trackId, found[0].crop.length], [1, null, 96 * 96]);
  const truth = face.keypoints(0);
  found[0].keypoints.forEach((p, k) => assert.ok(Math.hypot(p.x - truth[k].x, p.y - truth[k].y) < 0.06 * box.size));
  assert.ok(!('crop' in (await detector.detect(picture, { box })).faces[0]));
  for (const wrong of [{}, { ...box, size: 0 }, { ...box, size: -4 }, { ...box, x: NaN }, { ...box, roll: Infinity }])
    await assert.rejects(detector.detect(picture, { box: wrong }), refused('bad-option', /box is/));
  await assert.rejects(detector.detect(picture, { timestamp: NaN }), refused('bad-option', /timestamp is NaN/));
  await assert.rejects(detector.detect(picture, null), refused('bad-option', /detect\(\) are null/));
  await assert.rejects(detector.detect(undefined), refused('bad-option', /got undefined/));
});

test('the tutorial’s net2, which has seen no crop that is off, stays on a face that moves', async (t) => {
  const face = await drawn(t);
  const detector = await createDetector({
    weights: readFileSync(new URL('../../www/weights/net2.safetensors', import.meta.url)),
  });
  t.after(() => detector.close());
  let error = 0;
  for (let frame = 0; frame < 150; frame++) {
    const seconds = frame / 25;
    const { faces: found } = await detector.detect(face.draw(seconds), { timestamp: 1000 * seconds });
    const truth = face.keypoints(seconds);
    const eyes = Math.hypot(truth[3].x - truth[5].x, truth[3].y - truth[5].y);
    const off = found[0].keypoints.map((p, k) => Math.hypot(p.x - truth[k].x, p.y - truth[k].y) / eyes);
    if (frame >= 50) error += off.reduce((sum, v) => sum + v) / off.length / 100;
  }
  t.diagnostic(`mean error ${(100 * error).toFixed(1)} % of the eye distance`);
  // 13 % where its crop follows its own keypoints.
  assert.ok(error < 0.09, `mean error ${error}`);
});

test('reset, close and abort end what waits, each with its reason', async (t) => {
  const face = await drawn(t);
  const picture = face.draw(0);
  const frame = (detector, timestamp) => detector.detect(picture, { timestamp });
  const detector = await createDetector();
  const running = frame(detector, 0);
  const waiting = frame(detector, 40);
  const still = detector.detect(picture);
  detector.reset();
  await assert.rejects(waiting, refused('superseded', /was reset/));
  await running;
  assert.equal((await still).faces.length, 1, 'a still waits on through a reset');
  const pending = [frame(detector, 80), frame(detector, 120), detector.detect(picture)];
  detector.close();
  for (const end of await Promise.allSettled(pending)) refused('closed')(end.reason);
  await assert.rejects(detector.detect(picture), refused('closed'));
  detector.close();
  detector.reset();
  detector.recalibrate();
  detector.configure({ maxFaces: 2 });

  const controller = new AbortController();
  const aborted = await createDetector({ signal: controller.signal });
  const last = aborted.detect(picture);
  controller.abort();
  await assert.rejects(last, refused('aborted'));
  await assert.rejects(aborted.detect(picture), refused('aborted'));
});

test('configure changes what is given and nothing else', async (t) => {
  const face = await drawn(t);
  const detector = await createDetector({ minScore: 0.5 });
  t.after(() => detector.close());
  let at = 0;
  const count = async () => (await detector.detect(face.draw(0), { timestamp: (at += 40) })).faces.length;
  assert.equal(await count(), 1);
  detector.configure({ minScore: 1 });
  detector.reset();
  assert.equal(await count(), 0, 'no face is that sure');
  detector.configure({ maxFaces: 2, smoothing: 0 });
  assert.equal(await count(), 0, 'the score is kept');
  detector.configure({ minScore: 0.5 });
  assert.equal(await count(), 1);
  assert.throws(() => detector.configure({ maxFaces: 9 }), refused('bad-option', /maxFaces is 9/));
  assert.throws(() => detector.configure(null), refused('bad-option'));
});

// --------------------------------------------------------------------------------------------------- backend.js

/** A worker of this test: it keeps what it is asked, and answers as it is told. */
class FakeWorker {
  static made = [];
  static capable = true;
  posted = [];
  ended = false;
  constructor() {
    if (FakeWorker.capable === 'throws') throw new Error('no workers here');
    FakeWorker.made.push(this);
    setTimeout(() => {
      if (FakeWorker.capable === 'fails') this.onerror({ preventDefault() {} });
      else this.tell({ type: 'up', capable: FakeWorker.capable });
    });
  }
  tell(data) {
    this.onmessage({ data });
  }
  postMessage(message, transfer) {
    this.posted.push({ ...message, transfer });
    const { type, id } = message;
    if (type === 'load') {
      setTimeout(() => {
        this.tell({ type: 'progress', progress: { loaded: 1, total: 2 } });
        if (FakeWorker.refuses) this.tell({ type: 'error', id, ...FakeWorker.refuses });
        else this.tell({ type: 'done', id, result: { schema: { keypoints: NAMES } } });
      });
    }
  }
  terminate() {
    this.ended = true;
  }
  /** The pending detect requests. */
  get asked() {
    return this.posted.filter(({ type }) => type === 'detect');
  }
}

function withWorkers(t, { capable = true, refuses = null } = {}) {
  globalThis.Worker = FakeWorker;
  Object.assign(FakeWorker, { made: [], capable, refuses });
  t.after(() => delete globalThis.Worker);
}
let unique = 0;
/** Files of their own, so that no other test shares the backend. */
const files = () => ({ weights: new Uint8Array([++unique]), wasmUrl: 'file:///a.wasm', finderUrl: false });
const pixels = { data: new Uint8Array(16), width: 4, height: 4 };
const soon = () => new Promise((resolve) => setTimeout(resolve, 5));
const answer = { flat: Float32Array.from(flat()), crops: [], timings: { find: 1, net: 2 } };

test('detectors with the same files share a worker, each with its stream; the last one ends it', async (t) => {
  withWorkers(t);
  const same = files();
  const progress = [];
  const [one, two] = await Promise.all([
    createDetector({ ...same, onProgress: (p) => progress.push(p) }),
    createDetector({ ...same, maxFaces: 3 }),
  ]);
  const other = await createDetector(files());
  assert.equal(FakeWorker.made.length, 2);
  const [worker] = FakeWorker.made;
  assert.deepEqual([one.runsIn, one.info.schema.keypoints], ['worker', NAMES]);
  assert.deepEqual(progress, [{ loaded: 1, total: 2 }]);
  const settings = worker.posted.filter(({ type }) => type === 'configure');
  assert.deepEqual(settings.map(({ settings }) => settings.maxFaces).sort(), [1, 3]);
  assert.notEqual(settings[0].stream, settings[1].stream);

  const found = one.detect(pixels);
  await soon();
  const [request] = worker.asked;
  assert.deepEqual([request.frame.width, request.kind, request.crops], [4, null, false]);
  assert.deepEqual(request.transfer, [request.frame.luma.buffer]);
  worker.tell({ type: 'done', id: request.id, result: answer });
  const { faces: seen, timings } = await found;
  assert.equal(seen.length, 1);
  assert.deepEqual([timings.find, timings.net], [1, 2]);

  const refusedFrame = one.detect(pixels, { timestamp: 2500 });
  await soon();
  assert.deepEqual(worker.asked[1].kind, { seconds: 2.5 });
  worker.tell({ type: 'error', id: worker.asked[1].id, code: 'bad-frame', message: 'odd' });
  await assert.rejects(refusedFrame, refused('bad-frame', /odd/));

  one.reset();
  one.recalibrate();
  const { stream } = settings.find(({ settings }) => settings.maxFaces === 1);
  assert.deepEqual(
    worker.posted.slice(-2).map(({ type, stream }) => [type, stream]),
    [
      ['reset', stream],
      ['recalibrate', stream],
    ],
  );
  one.close();
  assert.deepEqual([last(worker.posted).type, last(worker.posted).stream, worker.ended], ['shut', stream, false]);
  two.close();
  await soon();
  assert.deepEqual([worker.ended, FakeWorker.made[1].ended], [true, false]);
  other.close();
  await soon();
  assert.equal(FakeWorker.made[1].ended, true);
  const again = await createDetector(same);
  assert.equal(FakeWorker.made.length, 3, 'a closed worker is not used again');
  again.close();
});

test('the strengths of smoothing reach the worker', async (t) => {
  withWorkers(t);
  const sent = async (smoothing) => {
    const detector = await createDetector({ ...files(), smoothing });
    detector.close();
    const { minCutoff, beta, dCutoff } = last(FakeWorker.made).posted.find(({ type }) => type === 'configure').settings;
    return [minCutoff, beta, dCutoff];
  };
  assert.deepEqual(await sent(undefined), [1, 10, 1]);
  assert.deepEqual(await sent(true), [1, 10, 1]);
  assert.deepEqual(await sent(false), [0, 10, 1]);
  assert.deepEqual(await sent(0), [0, 10, 1]);
  assert.deepEqual(await sent(2), [0.5, 5, 1]);
  assert.deepEqual(await sent({ beta: 3 }), [1, 3, 1]);
  const detector = await createDetector({ ...files(), smoothing: 2, minScore: 0.25 });
  detector.configure({ maxFaces: 2 });
  const { settings } = last(FakeWorker.made[FakeWorker.made.length - 1].posted);
  assert.deepEqual(settings, { maxFaces: 2, minScore: 0.25, minCutoff: 0.5, beta: 5, dCutoff: 1 });
  detector.configure({ smoothing: false });
  assert.equal(last(last(FakeWorker.made).posted).settings.minCutoff, 0);
  detector.close();
});

test('a worker that crashes is replaced once', async (t) => {
  withWorkers(t);
  const same = files();
  const detector = await createDetector(same);
  const crashed = [];
  for (const crash of [
    (worker) => worker.onerror({ preventDefault() {}, message: 'out of memory' }),
    (worker) => worker.tell({ type: 'crash', message: 'trap' }),
  ]) {
    const pending = detector.detect(pixels);
    await soon();
    await soon();
    const worker = last(FakeWorker.made);
    crash(worker);
    await assert.rejects(pending, (error) => crashed.push(error.message) && refused('worker-crashed')(error));
    assert.ok(worker.ended);
  }
  assert.equal(FakeWorker.made.length, 2);
  assert.match(crashed[0], /out of memory/);
  assert.match(crashed[1], /trap/);
  await assert.rejects(detector.detect(pixels), refused('worker-crashed', /stopped twice/));
  const fresh = await createDetector(same);
  assert.equal(FakeWorker.made.length, 3, 'a new detector gets a new worker');
  fresh.close();
  detector.close();
});

test('without a worker that works, the nets run here; what a worker refuses is told', async (t) => {
  for (const capable of ['throws', 'fails', false]) {
    withWorkers(t, { capable });
    const detector = await createDetector({ finderUrl: false });
    assert.equal(detector.runsIn, 'main', String(capable));
    assert.ok(FakeWorker.made.every(({ ended }) => ended));
    detector.close();
  }
  withWorkers(t, { refuses: { code: 'weights-invalid', message: 'cut short' } });
  const same = files();
  await assert.rejects(createDetector(same), refused('weights-invalid', /cut short/));
  assert.ok(FakeWorker.made[0].ended);
  FakeWorker.refuses = null;
  (await createDetector(same)).close();
  assert.equal(FakeWorker.made.length, 2, 'a failure is not kept');
});

test('a frame that cannot be handed over is another origin’s', async (t) => {
  withWorkers(t);
  const detector = await createDetector(files());
  const [worker] = FakeWorker.made;
  const post = worker.postMessage.bind(worker);
  worker.postMessage = (message, transfer) => {
    if (message.type === 'detect') throw new DOMException('no', 'DataCloneError');
    post(message, transfer);
  };
  await assert.rejects(detector.detect(pixels), refused('bad-frame', /another origin/));
  worker.postMessage = () => {
    throw new TypeError('other');
  };
  await assert.rejects(detector.detect(pixels), refused('internal', /other/));
  worker.postMessage = post;
  detector.close();
});

test('an abort while loading ends the worker, but not another detector’s', async (t) => {
  withWorkers(t);
  const same = files();
  const controller = new AbortController();
  const aborted = createDetector({ ...same, signal: controller.signal });
  const kept = createDetector(same);
  await Promise.resolve();
  controller.abort();
  await assert.rejects(aborted, refused('aborted'));
  const detector = await kept;
  assert.equal(FakeWorker.made[0].ended, false);
  detector.close();
  await soon();
  assert.ok(FakeWorker.made[0].ended);
  const alone = new AbortController();
  const loading = createDetector({ ...files(), signal: alone.signal });
  await Promise.resolve();
  alone.abort();
  await assert.rejects(loading, refused('aborted'));
  await soon();
  assert.ok(last(FakeWorker.made).ended);
});
