// <face-keypoints>: attributes and properties, start and stop, events, faults, and what a page may do to it.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { root, suite, test } from './harness.js';
import { writeSyntheticClip } from './clip.js';
import { audit, slowReads } from './visitor.js';

const shared = suite({ clip: writeSyntheticClip });

/** A page without anything of ours; the server's policy holds on it. */
async function open(t) {
  const context = await shared.browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => {
    // The browser looks for an icon by itself.
    if (message.type() === 'error' && !message.location().url.endsWith('/favicon.ico')) faults.push(message.text());
  });
  await page.goto(`${shared.url}pkg/package.json`);
  await page.evaluate(() => {
    document.body.textContent = '';
    /** The next event of a type, and the code of one that must not come. */
    globalThis.next = (element, type) =>
      new Promise((resolve, reject) => {
        element.addEventListener(type, (event) => resolve(event.detail), { once: true });
        if (type !== 'error')
          element.addEventListener('error', (event) => reject(new Error(event.detail.message)), { once: true });
      });
    globalThis.make = (attributes) => {
      const element = document.createElement('face-keypoints');
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      document.body.append(element);
      return element;
    };
  });
  return { context, page, faults };
}

const define = (page) => page.evaluate(() => import('/pkg/define.js').then(() => {}));

test('imports in Node without a DOM, class and registration', async () => {
  const { FaceKeypointsElement } = await import(join(root, 'pkg/element.js'));
  const define = await import(join(root, 'pkg/define.js'));
  assert.equal(define.FaceKeypointsElement, FaceKeypointsElement);
  assert.ok(FaceKeypointsElement.observedAttributes.includes('max-faces'));
});

test('importing the class registers nothing; defining twice is fine', async (t) => {
  const { page, faults } = await open(t);
  const seen = await page.evaluate(async () => {
    await import('/pkg/element.js');
    const before = customElements.get('face-keypoints');
    await import('/pkg/define.js');
    // Another copy of the file, as two versions of the package on one page would bring.
    await import('/pkg/define.js?again');
    return [before === undefined, typeof customElements.get('face-keypoints')];
  });
  assert.deepEqual(seen, [true, 'function']);
  assert.deepEqual(faults, []);
});

test('attributes and properties mirror each other, with their types', async (t) => {
  const { page } = await open(t);
  await define(page);
  const seen = await page.evaluate(() => {
    const e = make({ 'max-faces': '3', mirror: '', 'device-id': 'x' });
    const first = [e.maxFaces, e.mirror, e.camera, e.smoothing, e.weights, e.deviceId, e.minScore];
    Object.assign(e, {
      maxFaces: 2,
      mirror: false,
      camera: true,
      smoothing: false,
      weights: 'w',
      deviceId: null,
      minScore: 0.25,
    });
    const names = ['max-faces', 'mirror', 'camera', 'smoothing', 'weights', 'device-id', 'min-score'];
    e.weights = null;
    return [first, names.map((name) => e.getAttribute(name))];
  });
  assert.deepEqual(seen[0], [3, true, false, 1, null, 'x', 0.5]);
  assert.deepEqual(seen[1], ['2', null, '', '0', null, null, '0.25']);
});

test('properties set before the upgrade are taken over', async (t) => {
  const { page } = await open(t);
  await page.evaluate(() => {
    globalThis.early = document.createElement('face-keypoints');
    Object.assign(early, { maxFaces: 2, mirror: true, source: document.createElement('canvas') });
    document.body.append(early);
  });
  await define(page);
  const seen = await page.evaluate(() => [
    early.maxFaces,
    early.getAttribute('max-faces'),
    early.hasAttribute('mirror'),
    early.source.tagName,
  ]);
  assert.deepEqual(seen, [2, '2', true, 'CANVAS']);
});

test('the camera starts, finds the face, draws it, stops and starts again', async (t) => {
  const { page, faults } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const e = make({ camera: '', mirror: '' });
    const idle = e.shadowRoot.querySelector('button').checkVisibility();
    const rounds = [];
    let ready = 0;
    e.addEventListener('ready', () => ready++);
    for (let round = 0; round < 2; round++) {
      const found = next(e, 'facefound');
      const started = await e.start();
      const { face } = await found;
      const result = await next(e, 'keypoints');
      const canvas = e.shadowRoot.querySelector('canvas');
      const painted = canvas
        .getContext('2d')
        .getImageData(0, 0, canvas.width, canvas.height)
        .data.some((v) => v > 0);
      const png = await e.snapshot();
      const status = e.shadowRoot.querySelector('[role=status]').textContent;
      const track = e.shadowRoot.querySelector('video').srcObject.getVideoTracks()[0];
      const lost = next(e, 'facelost');
      e.stop();
      await lost;
      rounds.push([
        started,
        face.keypoints.length,
        face.trackId > 0,
        result.faces.length,
        painted,
        png.type,
        png.size > 1000,
        status,
        track.readyState,
        e.running,
        e.result,
      ]);
    }
    return { idle, rounds, ready };
  });
  assert.equal(seen.idle, true);
  for (const round of seen.rounds) {
    assert.deepEqual(round, [true, 15, true, 1, true, 'image/png', true, 'One face.', 'ended', false, null]);
  }
  assert.equal(seen.ready, 1, 'the nets are loaded once');
  assert.deepEqual(faults, []);
});

test('two elements share one worker, and removal ends it', { needs: 'workers' }, async (t) => {
  const { page } = await open(t);
  await define(page);
  await page.evaluate(async () => {
    globalThis.pair = [make({ camera: '', autostart: '' }), make({ camera: '', autostart: '', 'max-faces': '2' })];
    await Promise.all(pair.map((e) => next(e, 'keypoints')));
  });
  assert.equal(page.workers().length, 1);
  await page.evaluate(async () => {
    pair[0].remove();
    await next(pair[1], 'keypoints');
  });
  assert.equal(page.workers().length, 1);
  const gone = new Promise((resolve) => page.workers()[0].once('close', resolve));
  await page.evaluate(() => pair[1].remove());
  await gone;
});

test('an opened and a closed mouth are events, and recalibrate() takes what is there for rest', async (t) => {
  const { page, faults } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
    const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 240 });
    const context = canvas.getContext('2d');
    // The sample speaks from the third second on.
    const begun = performance.now();
    const draw = () => {
      context.putImageData(face.draw(2.5 + (performance.now() - begun) / 1000), 0, 0);
      requestAnimationFrame(draw);
    };
    draw();
    const element = make({});
    element.source = canvas;
    await element.start();
    const opened = await next(element, 'mouthopen');
    const closed = await next(element, 'mouthclose');
    element.recalibrate();
    const after = await next(element, 'keypoints');
    element.stop();
    return {
      opened: opened.face.mouth.open,
      events: opened.face.events,
      closed: closed.face.mouth.open,
      before: closed.face.mouth.confidence,
      after: after.faces[0].mouth.confidence,
    };
  });
  assert.ok(seen.opened > 0.25 && seen.closed < 0.15, JSON.stringify(seen));
  assert.deepEqual(seen.events, ['mouthopen']);
  assert.ok(seen.after < seen.before, `a rest of one frame is less sure: ${JSON.stringify(seen)}`);
  assert.deepEqual(faults, []);
});

test('moving keeps the camera on; removal switches it off, and appending again works', async (t) => {
  const { page } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
    const track = e.shadowRoot.querySelector('video').srcObject.getVideoTracks()[0];
    const box = document.body.appendChild(document.createElement('div'));
    box.append(e);
    await new Promise((resolve) => setTimeout(resolve));
    const moved = [track.readyState, e.running];
    await next(e, 'keypoints');
    e.remove();
    await new Promise((resolve) => setTimeout(resolve));
    const removed = [track.readyState, e.running];
    const again = next(e, 'keypoints');
    document.body.append(e);
    return [...moved, ...removed, (await again).faces.length >= 0];
  });
  assert.deepEqual(seen, ['live', true, 'ended', false, true]);
});

test('settings change while it runs; a value that makes no sense is an error event', async (t) => {
  const { page } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
    e.smoothing = 0;
    e.maxFaces = 4;
    await next(e, 'keypoints');
    const error = next(e, 'error');
    e.maxFaces = 9;
    const { code, message } = await error;
    e.maxFaces = 1;
    return [code, message, await e.start()];
  });
  assert.equal(seen[0], 'bad-option');
  assert.match(seen[1], /maxFaces is 9/);
  assert.equal(seen[2], true);
});

test('a canvas as the source, without a camera; with neither, an error', async (t) => {
  const { page } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [320, 240];
    canvas.getContext('2d').putImageData(face.draw(0), 0, 0);
    const e = make({ finder: 'none' });
    const error = next(e, 'error');
    const started = await e.start();
    const { code } = await error;
    e.source = canvas;
    const found = next(e, 'facefound');
    await e.start();
    const got = (await found).face.keypoints;
    const want = face.keypoints(0);
    const off = got.map((p, k) => Math.hypot(p.x - want[k].x, p.y - want[k].y)).reduce((a, b) => a + b) / got.length;
    return [started, code, off];
  });
  assert.deepEqual(seen.slice(0, 2), [false, 'bad-option']);
  assert.ok(seen[2] < 5, `${seen[2]} px off`);
});

test('parts, custom properties and the slot are there and work; a snapshot is with or without points, mirrored or not', async (t) => {
  const { page, faults } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
    const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 240 });
    const drawn = face.draw(0);
    canvas.getContext('2d').putImageData(drawn, 0, 0);
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(`face-keypoints { width: 400px; --face-keypoints-aspect-ratio: 2 / 1; --face-keypoints-background: rgb(1, 2, 3);
      --face-keypoints-color: rgb(4, 5, 6); --face-keypoints-accent: rgb(7, 8, 9); --face-keypoints-accent-color: rgb(10, 11, 12);
      --face-keypoints-point: rgb(255 0 0); --face-keypoints-edge: rgb(0 0 255); --face-keypoints-point-size: 0.04; }
      face-keypoints::part(status) { font-style: italic; }`);
    document.adoptedStyleSheets = [sheet];
    const e = make({});
    e.append(Object.assign(document.createElement('span'), { slot: 'button', textContent: 'Los' }));
    const part = (name) => e.shadowRoot.querySelector(`[part="${name}"]`);
    const parts = ['video', 'overlay', 'front', 'button', 'status'].filter((name) => !part(name));
    const [own, button] = [getComputedStyle(e), getComputedStyle(part('button'))];
    const style = [
      e.offsetHeight,
      own.backgroundColor,
      own.color,
      button.backgroundColor,
      button.color,
      getComputedStyle(part('status')).fontStyle,
    ];
    const words = part('button').querySelector('slot').assignedNodes()[0].textContent;
    e.source = canvas;
    const found = next(e, 'facefound');
    await e.start();
    await found;
    await next(e, 'keypoints');
    const pixels = async (blob) => {
      const context = new OffscreenCanvas(320, 240).getContext('2d');
      context.drawImage(await createImageBitmap(blob), 0, 0);
      return context.getImageData(0, 0, 320, 240).data;
    };
    const count = (data, test) => {
      let n = 0;
      for (let i = 0; i < data.length; i += 4) n += Number(test(...data.subarray(i, i + 3)));
      return n;
    };
    const [plain, mirrored, points] = await Promise.all(
      [{ overlay: false }, { overlay: false, mirror: true }, {}].map(async (o) => pixels(await e.snapshot(o))),
    );
    let [same, turned] = [0, 0];
    for (let y = 0; y < 240; y++) {
      for (let x = 0; x < 320; x++) {
        const at = 4 * (320 * y + x);
        same += Number(plain[at] === drawn.data[at]);
        turned += Number(mirrored[at] === drawn.data[4 * (320 * y + 319 - x)]);
      }
    }
    const red = (r, g, b) => r > 150 && g < 90 && b < 90;
    const seen = {
      parts,
      style,
      words,
      same,
      turned,
      red: [count(plain, red), count(points, red)],
      result: e.result.faces.length,
    };
    e.stop();
    const { code } = await e.snapshot().catch((error) => error);
    return { ...seen, code };
  });
  assert.deepEqual(seen.parts, [], 'missing parts');
  assert.deepEqual(seen.style, [200, 'rgb(1, 2, 3)', 'rgb(4, 5, 6)', 'rgb(7, 8, 9)', 'rgb(10, 11, 12)', 'italic']);
  assert.equal(seen.words, 'Los');
  assert.deepEqual([seen.same, seen.turned], [320 * 240, 320 * 240]);
  assert.ok(seen.red[1] > seen.red[0] + 100, `red pixels: ${seen.red}`);
  assert.deepEqual([seen.result, seen.code], [1, 'empty-frame']);
  assert.deepEqual(faults, []);
});

test('a hidden element takes no place', async (t) => {
  const { page } = await open(t);
  await define(page);
  const heights = await page.evaluate(() => {
    const e = make({});
    const shown = e.getBoundingClientRect();
    e.hidden = true;
    return [Math.round((100 * shown.width) / shown.height), e.getBoundingClientRect().height];
  });
  assert.deepEqual(heights, [133, 0]);
});

test('a hidden tab pauses', async (t) => {
  const { page } = await open(t);
  await define(page);
  const counts = await page.evaluate(async () => {
    const e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
    let count = 0;
    e.addEventListener('keypoints', () => count++);
    const hide = (hidden) => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    };
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    hide(true);
    await wait(400); // the frame on its way
    count = 0;
    await wait(600);
    const hidden = count;
    hide(false);
    await next(e, 'keypoints');
    return [hidden, count];
  });
  assert.equal(counts[0], 0);
  assert.ok(counts[1] > 0);
});

test('a slow device drops frames and never queues them', { needs: 'workers' }, async (t) => {
  const { page } = await open(t);
  await define(page);
  await page.evaluate(async () => {
    globalThis.e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
  });
  const slowReadsSoFar = await slowReads(page);
  const waits = await page.evaluate(async () => {
    await next(e, 'keypoints');
    const waits = [];
    for (let i = 0; i < 8; i++) waits.push((await next(e, 'keypoints')).timings);
    return waits.map(({ total, crop, net, find }) => total - crop - net - find);
  });
  const middle = waits.sort((a, b) => a - b)[4];
  assert.ok(middle < 60, `a frame waited ${middle} ms`);
  const slowed = await slowReadsSoFar();
  assert.ok(slowed >= 8, `only ${slowed} frames were slow`);
});

test('nothing is requested after loading', { needs: 'requests' }, async (t) => {
  const { page, context } = await open(t);
  await define(page);
  await page.evaluate(async () => {
    globalThis.e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
  });
  const late = [];
  context.on('request', (request) => late.push(request.url()));
  await page.evaluate(async () => {
    e.stop();
    await e.start();
    for (let i = 0; i < 30; i++) await next(e, 'keypoints');
  });
  assert.deepEqual(late, []);
});

for (const [name, code] of [
  ['NotAllowedError', 'camera-denied'],
  ['SecurityError', 'camera-denied'],
  ['NotFoundError', 'camera-missing'],
  ['NotReadableError', 'camera-in-use'],
  ['OverconstrainedError', 'camera-size'],
  ['AbortError', 'camera-failed'],
  ['OddError', 'camera-failed'],
]) {
  test(`camera fault ${name} is ${code}, with a sentence, and start() works again`, async (t) => {
    const { page } = await open(t);
    await define(page);
    const seen = await page.evaluate(async (name) => {
      navigator.mediaDevices.getUserMedia = async () => {
        delete navigator.mediaDevices.getUserMedia; // the next call is the real one
        throw new DOMException('made by the test', name);
      };
      const e = make({ camera: '' });
      const error = next(e, 'error');
      const started = await e.start();
      const { code, message } = await error;
      const shown = e.shadowRoot.querySelector('[role=status]').textContent;
      const frame = next(e, 'keypoints');
      return [started, code, shown === message && /^[A-Z].*\.$/.test(message), await e.start(), (await frame) !== null];
    }, name);
    assert.deepEqual(seen, [false, code, true, true, true]);
  });
}

test('no camera interface and an insecure page are told apart', async (t) => {
  const { page } = await open(t);
  await define(page);
  const codes = await page.evaluate(async () => {
    const e = make({ camera: '' });
    const codes = [];
    e.addEventListener('error', (event) => codes.push(event.detail.code));
    Object.defineProperty(navigator, 'mediaDevices', { value: undefined, configurable: true });
    await e.start();
    Object.defineProperty(window, 'isSecureContext', { value: false, configurable: true });
    await e.start();
    return codes;
  });
  assert.deepEqual(codes, ['camera-unsupported', 'camera-insecure']);
});

test('a camera that is unplugged while running is told, and start() works again', async (t) => {
  const { page } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
    const error = next(e, 'error');
    const [track] = e.shadowRoot.querySelector('video').srcObject.getVideoTracks();
    // Chromium sends a stopped track no event by itself; Firefox hands on none that a script sends, but tells the video.
    track.stop();
    track.dispatchEvent(new Event('ended'));
    const { code } = await error;
    const running = e.running;
    const frame = next(e, 'keypoints');
    return [code, running, await e.start(), (await frame) !== null];
  });
  assert.deepEqual(seen, ['camera-unplugged', false, true, true]);
});

test('a camera that changes its resolution goes on', async (t) => {
  const { page, faults } = await open(t);
  await define(page);
  const sizes = await page.evaluate(async () => {
    const e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
    const [video, canvas] = ['video', 'canvas'].map((name) => e.shadowRoot.querySelector(name));
    const before = [canvas.width, canvas.height];
    await video.srcObject.getVideoTracks()[0].applyConstraints({ width: 320, height: 240 });
    while (canvas.width === before[0]) await next(e, 'keypoints');
    return [before, [canvas.width, canvas.height], e.running];
  });
  assert.deepEqual(sizes, [[640, 480], [320, 240], true]);
  assert.deepEqual(faults, []);
});

test('a camera that the system mutes is told, and followed again when it is back', { needs: 'tracks' }, async (t) => {
  const { page, faults } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const e = make({ camera: '', autostart: '' });
    await next(e, 'facefound');
    const [track] = e.shadowRoot.querySelector('video').srcObject.getVideoTracks();
    const status = () => e.shadowRoot.querySelector('[role=status]').textContent;
    const lost = next(e, 'facelost');
    const interrupted = next(e, 'interrupted');
    track.dispatchEvent(new Event('mute'));
    const { reason } = await interrupted;
    await lost;
    const muted = [reason, e.running, e.result, status()];
    const resumed = next(e, 'resumed');
    track.dispatchEvent(new Event('unmute'));
    await resumed;
    await next(e, 'facefound');
    return [muted, e.running, status()];
  });
  assert.deepEqual(seen[0].slice(0, 3), ['muted', true, null]);
  assert.match(seen[0][3], /gives no picture/);
  assert.deepEqual(seen.slice(1), [true, 'One face.']);
  assert.deepEqual(faults, []);
});

test('a camera whose video the system pauses plays on by itself', async (t) => {
  const { page } = await open(t);
  await define(page);
  const frames = await page.evaluate(async () => {
    const e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
    const video = e.shadowRoot.querySelector('video');
    for (let i = 0; i < 3; i++) {
      video.pause();
      await next(e, 'keypoints');
      await next(e, 'keypoints');
    }
    return [video.paused, e.running];
  });
  assert.deepEqual(frames, [false, true]);
});

test('a camera that stops giving frames without a word is told', async (t) => {
  const { page } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 240 });
    const context = canvas.getContext('2d');
    let drawing = setInterval(() => context.fillRect(0, 0, 320, 240), 40);
    navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(25);
    const e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
    const interrupted = next(e, 'interrupted');
    clearInterval(drawing);
    const { reason } = await interrupted;
    const resumed = next(e, 'resumed');
    drawing = setInterval(() => context.fillRect(0, 0, 320, 240), 40);
    await resumed;
    clearInterval(drawing);
    return [reason, e.running];
  });
  assert.deepEqual(seen, ['silent', true]);
});

test('a video of the page that is paused, or has ended, is told; its points stay, and it goes on', async (t) => {
  const { page } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
    const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 240 });
    const drawing = setInterval(() => canvas.getContext('2d').putImageData(face.draw(0), 0, 0), 40);
    const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: 'video/webm' });
    const recorded = new Promise((resolve) => (recorder.ondataavailable = ({ data }) => resolve(data)));
    recorder.start();
    setTimeout(() => recorder.stop(), 1500);
    const video = Object.assign(document.createElement('video'), {
      muted: true,
      src: URL.createObjectURL(await recorded),
    });
    clearInterval(drawing);
    const e = make({});
    e.source = video;
    await video.play();
    await e.start();
    await next(e, 'facefound');
    const reasons = [];
    e.addEventListener('interrupted', ({ detail }) => reasons.push(detail.reason));
    video.pause();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const paused = [e.running, e.result.faces.length];
    const resumed = next(e, 'resumed');
    await video.play();
    await resumed;
    if (!video.ended) await new Promise((resolve) => (video.onended = resolve));
    await new Promise((resolve) => setTimeout(resolve, 200));
    const again = next(e, 'resumed');
    await video.play();
    await again;
    return [reasons, paused];
  });
  assert.deepEqual(seen, [
    ['paused', 'ended'],
    [true, 1],
  ]);
});

for (const [where, enter, options] of [
  ['a frame', () => document.body.appendChild(document.createElement('iframe')).contentWindow, {}],
  ['another window', () => window.open('/pkg/package.json'), { needs: 'camera' }],
]) {
  test(`moved to ${where} it looks the same and goes on; with that gone, the camera is off`, options, async (t) => {
    const { page } = await open(t);
    await define(page);
    await page.evaluate(`globalThis.enter = ${enter}; undefined`);
    const seen = await page.evaluate(async () => {
      const e = make({ camera: '', autostart: '' });
      await next(e, 'keypoints');
      const track = () => e.shadowRoot.querySelector('video').srcObject?.getVideoTracks()[0];
      const first = track();
      const frame = globalThis.enter();
      if (frame.document.readyState !== 'complete' || frame.location.href === 'about:blank')
        await new Promise((resolve) => setTimeout(resolve, 500));
      frame.document.body.replaceChildren(e);
      await next(e, 'keypoints');
      await next(e, 'keypoints');
      const style = frame.getComputedStyle(e.shadowRoot.querySelector('canvas')).position;
      const moved = [
        style,
        frame.getComputedStyle(e).display,
        e.running,
        track().readyState,
        e.shadowRoot.adoptedStyleSheets.length,
      ];
      const last = track();
      if (frame.frameElement) frame.frameElement.remove();
      else frame.close();
      for (let i = 0; i < 50 && last.readyState === 'live'; i++)
        await new Promise((resolve) => setTimeout(resolve, 50));
      const gone = [e.running, last.readyState, first.readyState];
      document.body.append(e);
      await next(e, 'keypoints');
      const back = getComputedStyle(e.shadowRoot.querySelector('canvas')).position;
      return { moved, gone, back };
    });
    assert.deepEqual(seen.moved, ['absolute', 'block', true, 'live', 1]);
    assert.deepEqual(seen.gone, [false, 'ended', 'ended']);
    assert.equal(seen.back, 'absolute');
  });
}

test('a source of the wrong kind, or of another origin, is told', async (t) => {
  const { page } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const codes = [];
    for (const source of [
      5,
      'video',
      document.createElement('div'),
      document.createElement('canvas').captureStream(),
    ]) {
      const e = make({});
      const error = next(e, 'error');
      e.source = source;
      const started = await e.start();
      codes.push(`${(await error).code} ${started}`);
    }
    const { openCamera } = await import('/pkg/camera.js');
    for (const video of [null, undefined, document.createElement('div')])
      codes.push((await openCamera(video).catch((error) => error)).code);
    return codes;
  });
  assert.deepEqual(seen, [...Array(4).fill('bad-option false'), ...Array(3).fill('bad-option')]);
});

test('a worker that crashes is replaced once; the second crash is told, and start() works again', {
  needs: 'workers',
}, async (t) => {
  const { page } = await open(t);
  await define(page);
  await page.evaluate(async () => {
    globalThis.e = make({ camera: '', autostart: '' });
    await next(e, 'keypoints');
  });
  const crash = async () => {
    const [worker] = page.workers();
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
  await page.evaluate(() => next(e, 'keypoints'));
  const told = page.evaluate(() => next(e, 'error').then(({ code, message }) => [code, message]));
  await crash();
  const [code, message] = await told;
  assert.equal(code, 'worker-crashed');
  assert.match(message, /twice/);
  const again = await page.evaluate(async () => {
    const frame = next(e, 'keypoints');
    return [await e.start(), (await frame) !== null];
  });
  assert.deepEqual(again, [true, true]);
});

test('weights that do not arrive are told, and other weights work', async (t) => {
  const { page } = await open(t);
  await define(page);
  const seen = await page.evaluate(async () => {
    const e = make({ camera: '', weights: '/pkg/weights/none.safetensors' });
    const error = next(e, 'error');
    await e.start();
    const { code } = await error;
    e.weights = '/pkg/weights/compact.safetensors';
    const frame = next(e, 'keypoints');
    return [code, await e.start(), (await frame) !== null];
  });
  assert.deepEqual(seen, ['weights-fetch', true, true]);
});

/** What the element may show: name, and how to get there. */
const STATES = {
  idle: () => void make({ camera: '' }),
  'waiting for the camera': async () => {
    navigator.mediaDevices.getUserMedia = () => new Promise(() => {});
    const e = make({ camera: '' });
    e.start();
    while (!e.shadowRoot.querySelector('[role=status]').textContent)
      await new Promise((resolve) => setTimeout(resolve, 20));
  },
  running: async () => {
    const e = make({ camera: '', mirror: '', autostart: '' });
    await next(e, 'facefound');
  },
  'an error': async () => {
    navigator.mediaDevices.getUserMedia = async () => {
      throw new DOMException('made by the test', 'NotAllowedError');
    };
    await make({ camera: '' }).start();
  },
};
for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing in the element: ${colorScheme}`, { needs: 'media' }, async (t) => {
    for (const [state, enter] of Object.entries(STATES)) {
      const { page, context } = await open(t);
      await page.emulateMedia({ colorScheme });
      await define(page);
      await page.evaluate(enter);
      assert.deepEqual(await audit(page, 'face-keypoints'), [], state);
      await context.close();
    }
  });
}
