// What pages hand over by mistake, and what browsers refuse: each is told by its code and a sentence, and does no lasting damage.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { host, root, suite, test } from './harness.js';

/** A server without a policy, and one of another origin. */
let own = '';
let other = '';
const shared = suite({
  async ready(t) {
    own = await host(t, root);
    const server = createServer((request, response) =>
      response.setHeader('Content-Type', 'image/png').end(readFileSync(join(root, 'www/icon-192.png'))),
    );
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => server.close());
    other = `http://127.0.0.1:${server.address().port}/icon.png`;
  },
});

/** A page of our own origin with the package in it. */
async function open(t, address = 'tests/browser/empty.html') {
  const page = await shared.browser.newPage();
  t.after(() => page.close());
  await page.goto(`${own}${address}`);
  await page.evaluate(async () => {
    const { createDetector } = await import('/pkg/index.js');
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
    /** How a call ends: the number of faces, or code and sentence. */
    const outcome = (promise) =>
      promise.then(
        ({ faces }) => faces?.length ?? 'done',
        (error) => `${error.code}: ${error.message}`,
      );
    const pngOf = async (picture) => {
      const canvas = new OffscreenCanvas(picture.width, picture.height);
      canvas.getContext('2d').putImageData(picture, 0, 0);
      return canvas.convertToBlob();
    };
    Object.assign(globalThis, { createDetector, createSyntheticFace, face, outcome, pngOf });
  });
  return page;
}

/** Whether these are `code: a sentence`. */
function assertTold(outcomes, code) {
  for (const [what, outcome] of Object.entries(outcomes)) {
    assert.match(String(outcome), new RegExp(`^${code}: \\S.*\\.$`), what);
    assert.doesNotMatch(String(outcome), /undefined is not|Cannot (read|set|destructure)/, what);
  }
}

for (const worker of [true, false]) {
  test(`a picture of another origin is told, and leaves nothing broken: ${worker ? 'in a worker' : 'without one'}`, async (t) => {
    const page = await open(t);
    const seen = await page.evaluate(
      async ([other, worker]) => {
        const image = new Image();
        image.src = other;
        await image.decode();
        const canvas = Object.assign(document.createElement('canvas'), { width: 192, height: 192 });
        canvas.getContext('2d').drawImage(image, 0, 0);
        const [one, two] = await Promise.all([createDetector({ worker }), createDetector({ worker })]);
        const refused = {};
        for (const [what, source] of Object.entries({ image, canvas, bitmap: await createImageBitmap(image) })) {
          refused[what] = await outcome(one.detect(source));
          refused[`${what} with a box`] = await outcome(one.detect(source, { box: { x: 96, y: 96, size: 96 } }));
          refused[`${what} of a stream`] = await outcome(one.detect(source, { timestamp: 0 }));
        }
        const after = [await outcome(one.detect(face.draw(0))), await outcome(two.detect(face.draw(0)))];
        const fresh = await createDetector({ worker });
        after.push(await outcome(fresh.detect(face.draw(0))));
        for (const detector of [one, two, fresh]) detector.close();
        return { refused, after, runsIn: one.runsIn };
      },
      [other, worker],
    );
    assert.equal(seen.runsIn, worker ? 'worker' : 'main');
    assertTold(seen.refused, 'bad-frame');
    for (const [what, outcome] of Object.entries(seen.refused)) assert.match(outcome, /another origin/, what);
    assert.deepEqual(seen.after, [1, 1, 1]);
  });
}

test('what is no picture is told as such, so that no loop waits for it', async (t) => {
  const page = await open(t);
  const seen = await page.evaluate(async () => {
    const detector = await createDetector();
    const tell = async (sources) => {
      const told = {};
      for (const [what, source] of Object.entries(sources)) told[what] = await outcome(detector.detect(source));
      return told;
    };
    const broken = new Image();
    broken.src = 'data:image/png;base64,AAAA';
    await broken.decode().catch(() => {});
    const bitmap = await createImageBitmap(face.draw(0));
    const frame = new VideoFrame(bitmap, { timestamp: 0 });
    bitmap.close();
    frame.close();
    const unplayable = document.createElement('video');
    unplayable.src = 'data:video/mp4;base64,AAAA';
    await new Promise((resolve) => (unplayable.onerror = resolve));
    const stream = document.createElement('canvas').captureStream();
    const option = await tell({
      null: null,
      undefined,
      number: 5,
      boolean: true,
      symbol: Symbol('x'),
      function: () => {},
      object: {},
      array: [],
      element: document.createElement('div'),
      reference: { current: document.createElement('video') },
      'reference of Vue': { value: null },
      stream,
      track: stream.getTracks()[0],
      promise: Promise.resolve(),
      bytes: new Uint8Array(4),
      buffer: new ArrayBuffer(4),
      response: new Response(),
      context: document.createElement('canvas').getContext('2d'),
      'pixels that are too few': { data: new Uint8Array(5), width: 2, height: 2 },
      'pixels of another type': { data: new Float32Array(16), width: 2, height: 2 },
      'pixels without a size': { data: new Uint8Array(0), width: 0, height: 0 },
      'no address': 'http://[',
    });
    const frames = await tell({
      broken,
      bitmap,
      frame,
      unplayable,
      empty: new Blob([]),
      text: new Blob(['hello'], { type: 'text/plain' }),
    });
    const waiting = await tell({
      video: document.createElement('video'),
      image: new Image(),
      canvas: Object.assign(document.createElement('canvas'), { width: 0 }),
    });
    const options = {};
    for (const [what, value] of Object.entries({
      null: null,
      'a number': 5,
      'a box without a size': { box: { x: 1, y: 1 } },
      'a box that is a word': { box: 'all' },
      time: { timestamp: '12' },
      'no time': { timestamp: null },
    })) {
      options[what] = await outcome(detector.detect(face.draw(0), value));
    }
    const after = await outcome(detector.detect(face.draw(0)));
    const configured = await outcome((async () => detector.configure(null))());
    detector.close();
    return { option, frames, waiting, options, after, configured };
  });
  assertTold(seen.option, 'bad-option');
  assert.match(seen.option.reference, /its \.current/);
  assert.match(seen.option['reference of Vue'], /its \.value/);
  assert.match(seen.option.stream, /in a video element/);
  assertTold(seen.frames, 'bad-frame');
  assertTold(seen.waiting, 'empty-frame');
  assertTold(seen.options, 'bad-option');
  assertTold({ configured: seen.configured }, 'bad-option');
  assert.equal(seen.after, 1);
});

test('odd options of createDetector() are told before anything is loaded', async (t) => {
  const page = await open(t);
  const seen = await page.evaluate(async () => {
    const told = {};
    for (const options of [
      null,
      5,
      { worker: 'yes' },
      { signal: {} },
      { onProgress: 1 },
      { weightsUrl: 5 },
      { weightsUrl: 'http://[' },
      { finderUrl: {} },
      { wasmUrl: [] },
      { weights: 'here' },
      { smoothing: 'strong' },
      { smoothing: '2' },
      { minScore: '0.5' },
      { maxFaces: '2' },
    ]) {
      told[JSON.stringify(options)] = await outcome(createDetector(options));
    }
    return told;
  });
  assertTold(seen, 'bad-option');
});

test('files, blobs and addresses of the own origin are read', async (t) => {
  const page = await open(t);
  const seen = await page.evaluate(async (other) => {
    const detector = await createDetector();
    const png = await pngOf(face.draw(0));
    const data = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(png);
    });
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="320" height="240"><image width="320" height="240" href="${data}"/></svg>`;
    const read = {};
    for (const [what, source] of Object.entries({
      blob: png,
      file: new File([png], 'face.png', { type: 'image/png' }),
      'file without a type': new File([png], 'face'),
      data,
      'blob address': URL.createObjectURL(png),
      svg: new Blob([svg], { type: 'image/svg+xml' }),
      'text data': `data:image/svg+xml,${encodeURIComponent(svg)}`,
    }))
      read[what] = await outcome(detector.detect(source));
    const icons = [
      await outcome(detector.detect('/www/icon-192.png')),
      await outcome(detector.detect(new URL('/www/icon-192.png', location.href))),
    ];
    const heic = new Blob([new Uint8Array([0, 0, 0, 24]), 'ftypheic', new Uint8Array(20)], { type: 'image/heic' });
    const refused = {};
    for (const [what, source] of Object.entries({
      other,
      missing: '/none.png',
      'a page': '/tests/browser/empty.html',
      heic,
    }))
      refused[what] = await outcome(detector.detect(source));
    detector.close();
    return { read, icons, refused };
  }, other);
  for (const [what, faces] of Object.entries(seen.read)) assert.equal(faces, 1, what);
  for (const faces of seen.icons) assert.equal(typeof faces, 'number', String(faces));
  assertTold(seen.refused, 'bad-frame');
  assert.match(seen.refused.other, /another origin/);
  assert.match(seen.refused.missing, /404/);
  assert.match(seen.refused.heic, /HEIC/);
});

test('still pictures queue and are all answered; of a stream the newest frame wins', async (t) => {
  const page = await open(t);
  const seen = await page.evaluate(async () => {
    const detector = await createDetector();
    const picture = face.draw(0);
    const short = (promise) => outcome(promise).then((text) => String(text).split(':')[0]);
    const stills = await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        short(detector.detect(i % 3 ? picture : picture, i % 2 ? { box: face.box(0) } : {})),
      ),
    );
    const stream = await Promise.all(
      Array.from({ length: 5 }, (_, i) => short(detector.detect(picture, { timestamp: 40 * i }))),
    );
    const mixed = await Promise.all(
      [0, 1, 2, 3, 4, 5].map((i) => short(detector.detect(picture, i % 2 ? { timestamp: 1000 + 40 * i } : {}))),
    );
    const kept = [
      short(detector.detect(picture, { timestamp: 2000 })),
      short(detector.detect(picture, { timestamp: 2040 })),
      short(detector.detect(picture)),
    ];
    detector.reset();
    const reset = await Promise.all(kept);
    detector.close();
    return { stills, stream, mixed, reset };
  });
  assert.deepEqual(seen.stills, Array(12).fill('1'));
  assert.deepEqual(seen.stream, ['1', 'superseded', 'superseded', 'superseded', '1']);
  assert.deepEqual(seen.mixed, ['1', 'superseded', '1', 'superseded', '1', '1']);
  assert.deepEqual(seen.reset, ['1', 'superseded', '1'], 'reset() drops the frame that waits, and no still picture');
});

test('a result says the size of its frame', async (t) => {
  const page = await open(t);
  const sizes = await page.evaluate(async () => {
    const detector = await createDetector();
    const canvas = new OffscreenCanvas(123, 45);
    canvas.getContext('2d');
    const frame = new VideoFrame(await createImageBitmap(new ImageData(64, 32)), {
      timestamp: 0,
      displayWidth: 128,
      displayHeight: 64,
    });
    const sizes = [];
    for (const source of [
      face.draw(0),
      canvas,
      frame,
      await pngOf(face.draw(0)),
      { data: new Uint8Array(12), width: 4, height: 3 },
    ])
      sizes.push((await detector.detect(source)).frame);
    detector.close();
    return sizes;
  });
  assert.deepEqual(
    sizes,
    [
      [320, 240],
      [123, 45],
      [128, 64],
      [320, 240],
      [4, 3],
    ].map(([width, height]) => ({ width, height })),
  );
});

test('a strip is seen from end to end, however long', async (t) => {
  const page = await open(t);
  const seen = await page.evaluate(async () => {
    const detector = await createDetector({ maxFaces: 4 });
    const small = await createImageBitmap(face.draw(0));
    const points = face.keypoints(0);
    const seen = [];
    for (const [width, height] of [
      [2400, 240],
      [320, 2000],
      [4000, 200],
    ]) {
      const across = width > height;
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext('2d');
      context.fillStyle = '#888';
      context.fillRect(0, 0, width, height);
      // One at each end, one on what may be a seam.
      const places = [0, 0.31, 1].map((share) =>
        (across ? [share * (width - 320), (height - 240) / 2] : [(width - 320) / 2, share * (height - 240)]).map(
          Math.round,
        ),
      );
      for (const [x, y] of places) context.drawImage(small, x, y);
      for (const raw of [false, true]) {
        const source = raw ? context.getImageData(0, 0, width, height) : canvas;
        const { faces } = await detector.detect(raw ? { data: source.data, width, height } : source);
        const offs = places.map(([x, y]) =>
          Math.min(
            ...faces.map(({ keypoints }) =>
              Math.hypot(keypoints[10].x - x - points[10].x, keypoints[10].y - y - points[10].y),
            ),
          ),
        );
        seen.push({ size: `${width}x${height}`, raw, count: faces.length, far: Math.max(...offs) });
        if (raw) continue;
        // As a video: its parts come in turn, so a face comes within a few seconds at most.
        let followed = [];
        for (let i = 0; i < 150 && followed.length < 3; i++)
          ({ faces: followed } = await detector.detect(canvas, { timestamp: 40 * i }));
        seen.push({ size: `a video of ${width}x${height}`, raw, count: followed.length, far: 0 });
        detector.reset();
      }
    }
    detector.close();
    return seen;
  });
  for (const { size, raw, count, far } of seen) {
    assert.equal(count, 3, `${size}, raw ${raw}`);
    assert.ok(far < 8, `${size}, raw ${raw}: a nose is ${far} px off`);
  }
});

test('raw pixels, in colours or grey, give the keypoints of the same picture', async (t) => {
  const page = await open(t);
  const worst = await page.evaluate(async () => {
    const worst = {};
    for (const worker of [true, false]) {
      const detector = await createDetector({ worker });
      const { data, width, height } = face.draw(0);
      const want = (await detector.detect(face.draw(0))).faces[0];
      const grey = new Uint8Array(width * height);
      const rgb = new Uint8Array(3 * width * height);
      for (let p = 0; p < grey.length; p++) {
        rgb.set(data.subarray(4 * p, 4 * p + 3), 3 * p);
        grey[p] = 0.299 * data[4 * p] + 0.587 * data[4 * p + 1] + 0.114 * data[4 * p + 2] + 0.5;
      }
      for (const [name, pixels] of Object.entries({ rgba: data, rgb, grey })) {
        const { faces } = await detector.detect({ data: pixels, width, height });
        worst[`${name} ${worker}`] = Math.max(
          ...faces[0].keypoints.map(
            (p, k) => (96 / want.box.size) * Math.hypot(p.x - want.keypoints[k].x, p.y - want.keypoints[k].y),
          ),
        );
        if (pixels.length !== { rgba: 4, rgb: 3, grey: 1 }[name] * width * height)
          throw new Error('the pixels are gone');
      }
      detector.close();
    }
    return worst;
  });
  t.diagnostic(JSON.stringify(worst));
  for (const [kind, off] of Object.entries(worst)) assert.ok(off < 0.7, `${kind}: ${off} px of 96`);
});

test('the hint at a content security policy comes with its cause only', async (t) => {
  const page = await open(t);
  const wasm = readFileSync(join(root, 'pkg/dist/face96_bg.wasm'));
  const bodies = {
    html: '<!doctype html><title>Not here</title>',
    text: 'not wasm',
    cut: wasm.subarray(0, wasm.length / 2),
    empty: '',
  };
  for (const [name, body] of Object.entries(bodies))
    await page.route(`**/${name}.wasm*`, (route) => route.fulfill({ body }));
  // Anew: the drawn face has loaded the wasm of this thread.
  await page.reload();
  const seen = await page.evaluate(async (names) => {
    const { createDetector } = await import('/pkg/index.js');
    const outcome = (promise) =>
      promise.then(
        () => 'done',
        ({ code, message }) => `${code}: ${message}`,
      );
    const seen = {};
    for (const worker of [true, false])
      for (const name of names)
        seen[`${name} ${worker}`] = await outcome(createDetector({ worker, wasmUrl: `/${name}.wasm?${worker}` }));
    return seen;
  }, Object.keys(bodies));
  assertTold(seen, 'wasm-compile');
  for (const outcome of Object.values(seen)) assert.doesNotMatch(outcome, /policy|unsafe-eval/);
  assert.match(seen['html true'], /web page/);
  assert.match(seen['cut false'], /cut short/);
});

test('a browser without WebAssembly, or without its SIMD, is told so in one sentence', async (t) => {
  const withoutSimd = () => {
    WebAssembly.validate = () => false;
    WebAssembly.instantiate = async () => {
      throw new WebAssembly.CompileError('made by the test: invalid opcode 0xfd');
    };
  };
  for (const stub of [withoutSimd, () => delete globalThis.WebAssembly]) {
    const page = await open(t);
    // Anew: the drawn face has loaded the wasm of this thread.
    await page.reload();
    await page.evaluate(stub);
    const said = await page.evaluate(async () => {
      const { createDetector } = await import('/pkg/index.js');
      return createDetector({ worker: false }).catch(({ code, message }) => `${code}: ${message}`);
    });
    assertTold({ said }, 'wasm-unsupported');
  }
});

for (const worker of [true, false]) {
  test(`a browser that gives back other pixels than were drawn is told, until it is allowed: ${worker ? 'in a worker' : 'without one'}`, {
    needs: 'workers',
  }, async (t) => {
    const page = await open(t);
    await page.evaluate(async (worker) => (globalThis.detector = await createDetector({ worker })), worker);
    const thread = worker ? page.workers()[0] : page;
    for (const kind of ['white', 'noise']) {
      await thread.evaluate((kind) => {
        const { prototype } = OffscreenCanvasRenderingContext2D;
        const { getImageData } = prototype;
        globalThis.allow = () => (prototype.getImageData = getImageData);
        prototype.getImageData = function (...args) {
          const image = getImageData.apply(this, args);
          for (let i = 0; i < image.data.length; i++)
            image.data[i] = kind === 'white' ? 255 : (Math.imul(i + 1, 2654435761) >>> 16) & 255;
          return image;
        };
      }, kind);
      // A detector that had been allowed before asks no more.
      if (kind === 'white')
        assertTold({ kind: await page.evaluate(() => outcome(detector.detect(face.draw(0)))) }, 'canvas-blocked');
      await thread.evaluate(() => void allow());
    }
    assert.equal(await page.evaluate(() => outcome(detector.detect(face.draw(0)))), 1);
  });
}

test('a service worker, which can neither start a worker nor import later, runs the nets itself', async (t) => {
  const page = await open(t);
  const said = await page.evaluate(async () => {
    await navigator.serviceWorker.register('/tests/browser/service.js', { type: 'module' });
    const { active } = await navigator.serviceWorker.ready;
    const { data, width, height } = face.draw(0);
    const answer = new Promise((resolve) => (navigator.serviceWorker.onmessage = ({ data }) => resolve(data)));
    active.postMessage({ data, width, height });
    return answer;
  });
  assert.deepEqual(said, { runsIn: 'main', faces: [1, 1] });
});
