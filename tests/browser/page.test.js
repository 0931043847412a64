// The page: what a visitor meets, with and without a camera, and how each fault is told.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { deflateSync, crc32 } from 'node:zlib';
import { fewerKeypoints, finderPath, foreignWeights, root, suite, test, weightsPath } from './harness.js';
import { countRequests, open as openPage, playSample, running, saved, slowReads, status } from './visitor.js';

const shared = suite();

const open = (t, options) => openPage(t, shared.browser, shared.url, options);

/** Sum of what a canvas shows, which a worker may have drawn: changes with every change of the drawing. */
const inkOf = (selector) => {
  const shown = document.querySelector(selector);
  const context = new OffscreenCanvas(shown.width, shown.height).getContext('2d');
  context.drawImage(shown, 0, 0);
  return context
    .getImageData(0, 0, shown.width, shown.height)
    .data.reduce((sum, byte, i) => sum + byte * ((i % 251) + 1), 0);
};
const ink = (page) => page.evaluate(inkOf, '#overlay');

/** What is drawn over the picture, once it is something else than before. */
const otherInk = async (page, before) => {
  for (const end = Date.now() + 5000; Date.now() < end; await page.waitForTimeout(30)) {
    const now = await ink(page);
    if (now !== before) return now;
  }
  return before;
};

/** A PNG of the sample, as bytes. */
const sampleImage = (page, width = 320, height = 240) =>
  page
    .evaluate(
      async ([width, height]) => {
        const { createSyntheticFace } = await import('/pkg/synthetic.js');
        const face = await createSyntheticFace({ seed: 3, width, height });
        const canvas = new OffscreenCanvas(width, height);
        canvas.getContext('2d').putImageData(face.draw(0), 0, 0);
        face.close();
        return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
      },
      [width, height],
    )
    .then(Buffer.from);

// ------------------------------------------------------------------------------------------- sample and camera

test('the sample plays with keypoints on the face, and stops', async (t) => {
  const { page, faults } = await open(t);
  await playSample(page);
  assert.ok((await otherInk(page, 0)) > 0, 'nothing is drawn over the sample');
  await page.click('#stop');
  await page.waitForSelector('#stop', { state: 'hidden' });
  assert.equal(await page.isVisible('#picture'), false);
  await page.waitForTimeout(200);
  assert.equal(await ink(page), 0);
  assert.deepEqual(faults, []);
});

test('names stand beside each face, but never over the names of another one', async (t) => {
  const { page } = await open(t);
  const written = await page.evaluate(async () => {
    const { drawFaces } = await import('/pkg/draw.js');
    const face = (x) => ({
      box: { x, y: 150, size: 100, roll: 0 },
      keypoints: [-30, 30].flatMap((u) =>
        [-20, 0, 20].map((v) => ({ x: x + u, y: 150 + v, name: `left_${u}_${v}`, confidence: 1 })),
      ),
    });
    const names = (distance) => {
      const context = new OffscreenCanvas(1000, 300).getContext('2d');
      const places = [];
      context.fillText = (_, x) => places.push(x);
      const view = { x: 0, y: 0, scale: 1, width: 1000, canvas: context.canvas, mirrored: false, pixel: 1 };
      drawFaces(context, [face(200), face(200 + distance)], { view, labels: true });
      return places;
    };
    return { near: names(120), far: names(500) };
  });
  assert.equal(written.far.length, 12, 'both faces have their names');
  assert.equal(written.near.length, 6, 'the second one goes without');
  assert.ok(Math.max(...written.near) < 260, 'those of the first are there');
});

test('the sample shows as many faces as are looked for, and all are followed', async (t) => {
  const { page, faults } = await open(t);
  await page.click('summary:has-text("Tracking")');
  await page.click('#play');
  const followed = (n) =>
    page.waitForFunction(
      (n) =>
        Array.from(document.querySelector('#poses').rows).filter((row) => row.cells[1].textContent !== '–').length ===
        n,
      n,
      { timeout: 20_000 },
    );
  for (const n of [1, 4, 2, 3]) {
    await page.click(`label:has([data-setting="faces"][value="${n}"])`);
    await followed(n);
    // The crops come with a later frame.
    await page.waitForFunction(
      (n) =>
        Array.from(document.querySelectorAll('#crop-list canvas')).filter((canvas) => canvas.checkVisibility())
          .length === n,
      n,
    );
  }
  await page.click('#stop');
  assert.deepEqual(faults, []);
});

test('expressions are read and told against the rest of the face', async (t) => {
  const { page, faults } = await open(t);
  await page.click('summary:has-text("Expressions")');
  await playSample(page);
  const cells = () =>
    page.evaluate(() => Array.from(document.querySelector('#expressions').rows[0].cells, (cell) => cell.textContent));
  // The sample speaks within seven seconds.
  await page.waitForFunction(
    () => /mouth opened.*mouth closed/.test(document.querySelector('#happened').textContent),
    null,
    { timeout: 20_000 },
  );
  const [face, left, right, ...others] = await cells();
  assert.deepEqual([face, left, right], ['1', '–', '–'], '15 points tell nothing of the lids');
  for (const text of others) assert.ok(/^\d+$/.test(text) && Number(text) <= 100, `reading '${text}'`);
  await page.click('#rest');
  assert.match(await page.textContent('#status'), /Rest is what the face does/);
  assert.deepEqual(faults, []);
});

test('glasses sit on the head, also in a mirror, and go when they are switched off', async (t) => {
  const { page, faults } = await open(t);
  const placed = await page.evaluate(async () => {
    const { wear } = await import('/glasses.js');
    const stage = document.querySelector('#stage').getBoundingClientRect();
    // A head 100 pixels wide, its eyes at (200, 150), straight ahead, in a frame of 400 x 300 that is shown twice as large.
    const matrix = [100, 0, 0, 0, 0, 100, 0, 0, 0, 0, 100, 0, 200, 150, 0, 1];
    const lenses = (mirrored) => {
      wear([{ pose: { matrix } }], { x: 10, y: 20, scale: 2, width: 400, mirrored });
      return ['left', 'right'].map((side) => {
        const { left, top, width, height } = document.querySelector(`#glasses .lens.${side}`).getBoundingClientRect();
        return [left + width / 2 - stage.left, top + height / 2 - stage.top, width];
      });
    };
    return [lenses(false), lenses(true)];
  });
  // The middle of the head's pixel is at 10 + 2 * 200.5, and a lens's 46 of 200 parts of its width beside it.
  const near = ([x, y, width], at) =>
    assert.ok(Math.hypot(x - at, y - (20 + 2 * 150.5 + 3)) < 2 && Math.abs(width - 66) < 1, `${x}, ${y}, ${width}`);
  const [[left, right], [mirroredLeft, mirroredRight]] = placed;
  near(left, 411 + 46);
  near(right, 411 - 46);
  near(mirroredLeft, 10 + 800 - 401 - 46);
  near(mirroredRight, 10 + 800 - 401 + 46);
  await page.reload();
  await page.click('label:has([data-setting="glasses"])');
  await playSample(page);
  await page.waitForFunction(() => document.querySelector('#glasses .lens')?.checkVisibility());
  await page.click('label:has([data-setting="glasses"])');
  await page.waitForFunction(() => !document.querySelector('#glasses .lens').checkVisibility());
  assert.deepEqual(faults, []);
});

test('the camera starts, stops and starts again; Stop switches it off', async (t) => {
  const { page, faults } = await open(t);
  for (let round = 0; round < 2; round++) {
    await page.click('#start');
    await running(page);
    const track = await page.evaluateHandle(() => document.querySelector('#video').srcObject.getVideoTracks()[0]);
    await page.click('#stop');
    await page.waitForSelector('#stop', { state: 'hidden' });
    assert.equal(await track.evaluate((t) => t.readyState), 'ended');
  }
  assert.deepEqual(faults, []);
});

test('the camera is chosen from a list, and the choice is remembered', { needs: 'camera' }, async (t) => {
  const { page, context } = await open(t);
  await page.evaluate(() => {
    const real = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
    navigator.mediaDevices.enumerateDevices = async () => [
      ...(await real()),
      { kind: 'videoinput', deviceId: 'second', label: 'Second camera' },
    ];
  });
  await page.click('#start');
  await running(page);
  await page.click('summary:has-text("Tracking")');
  const names = await page.locator('#camera option').allTextContents();
  assert.equal(names.at(-1), 'Second camera');
  assert.ok(names.length >= 3, `the list is ${names}`);
  const asked = page.evaluate(
    () =>
      new Promise((resolve) => {
        const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = (constraints) => {
          resolve(constraints.video.deviceId);
          return real(constraints);
        };
      }),
  );
  await page.selectOption('#camera', 'second');
  assert.deepEqual(await asked, { exact: 'second' }, 'the choice restarts the camera');
  await running(page);
  // There is no such camera, so the browser took the one that is there: that one is remembered.
  const kept = await page.inputValue('#camera');
  const again = await context.newPage();
  await again.goto(shared.url);
  await again.waitForFunction((kept) => document.querySelector('#camera').value === kept, kept);
});

// ------------------------------------------------------------------------------------------- privacy

test('nothing is requested after loading, by the page, its worker or the service worker', async (t) => {
  const counted = await countRequests(t, shared.url);
  const { page } = await openPage(t, shared.browser, counted.url);
  await playSample(page);
  await page.waitForFunction(() => document.querySelector('#offline').textContent !== '');
  const loaded = counted.requests.length;
  t.diagnostic(`${loaded} requests while loading, service worker included`);
  await page.click('#stop');
  await page.click('#start');
  await running(page);
  await page.setInputFiles('#file', { name: 'face.png', mimeType: 'image/png', buffer: await sampleImage(page) });
  await status(page, 'face.png');
  for (const setting of ['labels', 'boxes', 'colours']) await page.click(`label:has([data-setting="${setting}"])`);
  await page.keyboard.press('3');
  await saved(page, '#snapshot');
  await page.click('#stop');
  await page.click('#play');
  await running(page);
  await page.waitForTimeout(1000);
  // Firefox itself asks soon after whether the service worker is still the same: its own script, and what that imports.
  const unchanged = ['/sw.js', '/offline-files.js'];
  const own = (request) => process.env.ENGINE === 'firefox' && unchanged.includes(request);
  assert.deepEqual(
    counted.requests.slice(loaded).filter((request) => !own(request)),
    [],
  );
  // The proof by the server's absence: it all goes on without one.
  counted.close();
  await page.click('#stop');
  await playSample(page);
});

// ------------------------------------------------------------------------------------------- faults of the camera

for (const [name, sentence] of [
  ['NotAllowedError', 'denied'],
  ['SecurityError', 'denied'],
  ['NotFoundError', 'No camera was found'],
  ['NotReadableError', 'in use'],
  ['OverconstrainedError', 'No camera fits'],
  ['AbortError', 'stopped while it was starting'],
  ['UnheardOfError', 'did not start: made by the test'],
]) {
  test(`camera fault ${name} has its sentence, and Start works again`, async (t) => {
    const { page } = await open(t);
    await page.evaluate((name) => {
      navigator.mediaDevices.getUserMedia = async () => {
        delete navigator.mediaDevices.getUserMedia; // the next call is the real one
        throw new DOMException('made by the test', name);
      };
    }, name);
    await page.click('#start');
    await status(page, sentence);
    await page.click('#start');
    await running(page);
  });
}

test('a browser without a camera interface and an insecure page are told apart', async (t) => {
  const { page } = await open(t);
  await page.evaluate(() => Object.defineProperty(navigator, 'mediaDevices', { value: undefined, configurable: true }));
  await page.click('#start');
  await status(page, 'gives pages no camera');
  await page.evaluate(() => Object.defineProperty(window, 'isSecureContext', { value: false, configurable: true }));
  await page.click('#start');
  await status(page, 'secure page');
  await page.evaluate(() => {
    delete navigator.mediaDevices;
    delete window.isSecureContext;
    Object.defineProperty(window, 'isSecureContext', { value: true });
  });
  await page.click('#start');
  await running(page);
});

test('a camera that is unplugged while running is told, and Start works again', async (t) => {
  const { page } = await open(t);
  await page.click('#start');
  await running(page);
  await page.evaluate(() => {
    const [track] = document.querySelector('#video').srcObject.getVideoTracks();
    // Chromium sends a stopped track no event by itself; Firefox hands on none that a script sends, but tells the video.
    track.stop();
    track.dispatchEvent(new Event('ended'));
  });
  await status(page, 'unplugged');
  await page.click('#start');
  await running(page);
});

test('a camera that another program takes while it runs is told, and so is its return', {
  needs: 'tracks',
}, async (t) => {
  const { page } = await open(t);
  await page.click('#start');
  await running(page);
  // What is said at once: the count of faces may be told a moment later.
  const said = (event) =>
    page.evaluate((event) => {
      document.querySelector('#video').srcObject.getVideoTracks()[0].dispatchEvent(new Event(event));
      return document.querySelector('#status').textContent;
    }, event);
  assert.match(await said('mute'), /gives no picture/);
  assert.match(await said('unmute'), /The camera is back/);
});

test('a camera that is allowed and gives no picture is told, and can be stopped', async (t) => {
  const { page } = await open(t);
  await page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = async () => {
      delete navigator.mediaDevices.getUserMedia;
      return document.createElement('canvas').captureStream(0);
    };
  });
  await page.click('#start');
  await status(page, 'gives no picture');
  await page.click('#stop');
  await page.click('#start');
  await running(page);
});

test('a camera that changes its resolution is followed', async (t) => {
  const { page, faults } = await open(t);
  await page.evaluate(async () => {
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const canvas = document.createElement('canvas');
    let face;
    let start = performance.now();
    globalThis.resize = async (width, height) => {
      const next = await createSyntheticFace({ seed: 7, width, height });
      Object.assign(canvas, { width, height });
      [face, start] = [next, performance.now()];
    };
    await globalThis.resize(320, 240);
    setInterval(() => canvas.getContext('2d').putImageData(face.draw((performance.now() - start) / 1000), 0, 0), 40);
    navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(25);
  });
  const shown = () =>
    page.evaluate(() => [document.querySelector('#video').videoWidth, document.querySelector('#video').videoHeight]);
  await page.click('#start');
  await page.waitForSelector('.stage.found', { timeout: 20_000 });
  assert.deepEqual(await shown(), [320, 240]);
  for (const size of [
    [240, 320],
    [640, 480],
  ]) {
    await page.evaluate((size) => globalThis.resize(...size), size);
    await page.waitForFunction((width) => document.querySelector('#video').videoWidth === width, size[0], {
      timeout: 10_000,
    });
    assert.deepEqual(await shown(), size);
    await page.waitForSelector('.stage.found');
  }
  assert.ok(await page.isVisible('#stop'), 'it still runs');
  assert.deepEqual(faults, []);
});

// ------------------------------------------------------------------------------------------- faults of loading

for (const [what, pattern, answer, sentence] of [
  ['weights 404', '**/compact.safetensors', { status: 404, body: '' }, 'answered 404'],
  [
    'truncated weights',
    '**/compact.safetensors',
    { body: () => readFileSync(weightsPath).subarray(0, 100_000) },
    'cannot be used',
  ],
  ['empty weights', '**/compact.safetensors', { body: '' }, 'cannot be used'],
  ['foreign weights', '**/compact.safetensors', { body: foreignWeights }, 'cannot be used'],
  ['finder 404', '**/finder.safetensors', { status: 404, body: '' }, /finder\.safetensors: the server answered 404/],
  [
    'truncated finder',
    '**/finder.safetensors',
    { body: () => readFileSync(finderPath).subarray(0, 10_000) },
    /finder\.safetensors cannot be used/,
  ],
  [
    'keypoints in the place of the finder',
    '**/finder.safetensors',
    { body: () => readFileSync(weightsPath) },
    /finder\.safetensors cannot be used/,
  ],
  ['wasm 404', '**/face96*_bg.wasm', { status: 404, body: '' }, 'answered 404'],
  ['damaged wasm', '**/face96*_bg.wasm', { body: 'not wasm' }, 'The browser refused'],
]) {
  test(`${what}: a sentence, and Start works again`, async (t) => {
    // A worker is served from what the service worker keeps as soon as that is there, past the route.
    const { page, context } = await open(t, { serviceWorkers: 'block' });
    const body = typeof answer.body === 'function' ? answer.body() : answer.body;
    await context.route(pattern, (route) => route.fulfill({ ...answer, body }));
    await page.click('#start');
    await page.waitForSelector('.status.error', { timeout: 20_000 });
    const said = await page.textContent('#status');
    t.diagnostic(said);
    assert.match(said, new RegExp(sentence));
    await context.unroute(pattern);
    await page.click('#start');
    await running(page);
  });
}

test('a worker that crashes is started again; when it crashes once more that is told, and Start works', {
  needs: 'workers',
}, async (t) => {
  const { page } = await open(t);
  await playSample(page);
  const crash = async () => {
    const worker = page.workers().find((w) => w.url().endsWith('/worker.js'));
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
  await page.waitForEvent('worker');
  await page.waitForTimeout(1000);
  assert.ok(await page.isVisible('#stop'), 'the run goes on');
  assert.match(await page.textContent('#status'), /^(Following|Playing)/);
  await crash();
  await status(page, 'The worker stopped');
  await playSample(page);
});

test('weights for other keypoints are drawn and saved as they are', async (t) => {
  const { page, context, faults } = await open(t, { serviceWorkers: 'block' });
  await context.route('**/compact.safetensors', (route) => route.fulfill({ body: fewerKeypoints(4) }));
  await playSample(page);
  assert.ok((await otherInk(page, 0)) > 0);
  await page.click('label:has([data-setting="labels"])');
  await page.click('summary:has-text("Save")');
  await page.waitForTimeout(600);
  const json = JSON.parse((await saved(page, '#json')).bytes.toString());
  assert.deepEqual([json.faces[0].keypoints.length, json.faces[0].pose.yaw], [4, null]);
  const [header, row] = (await saved(page, '#csv')).bytes
    .toString()
    .split('\n')
    .map((line) => line.split(','));
  assert.equal(header.length, row.length);
  assert.equal(row[header.indexOf('yaw')], '', 'what is not known is empty');
  assert.deepEqual(faults, []);
});

for (const [what, older] of [
  ['as browsers are', false],
  ['without canvases for workers and video frames', true],
]) {
  test(`a live camera is shown by the video itself, ${what}: points over it, crop, snapshot, recording`, async (t) => {
    const { page, context, faults } = await open(t);
    await page.close();
    const own = await context.newPage();
    own.on('pageerror', (error) => faults.push(error.message));
    own.on('console', (message) => faults.push(message.text())); // such as a video frame that nobody closed
    await own.addInitScript((older) => {
      if (older) {
        delete HTMLCanvasElement.prototype.transferControlToOffscreen;
        delete window.VideoFrame;
      }
      // The camera shows a drawn face, which stands still.
      navigator.mediaDevices.getUserMedia = async () => {
        const { createSyntheticFace } = await import('/pkg/synthetic.js');
        const face = await createSyntheticFace({ seed: 7, width: 320, height: 240 });
        const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 240 });
        setInterval(() => canvas.getContext('2d').putImageData(face.draw(0), 0, 0), 40);
        return canvas.captureStream(25);
      };
    }, older);
    await own.goto(shared.url);
    await own.click('#start');
    await own.waitForSelector('.stage.found', { timeout: 20_000 });
    assert.ok((await otherInk(own, 0)) > 0, 'points are drawn');
    assert.equal(await own.isVisible('#picture'), false, 'nothing paints the frame');
    const [video, stage] = await Promise.all(
      ['#video', '#stage'].map((selector) => own.locator(selector).boundingBox()),
    );
    assert.deepEqual(video, stage);
    assert.equal(
      await own.evaluate(() => new DOMMatrix(getComputedStyle(document.querySelector('#video')).transform).a),
      -1,
      'mirrored',
    );
    await own.waitForTimeout(300);
    assert.ok((await own.evaluate(inkOf, '#crop-list canvas')) > 0, 'the crop shows the face');
    assert.equal(
      own.workers().some((worker) => worker.url().includes('painter')),
      !older,
    );
    const { bytes } = await saved(own, '#snapshot');
    assert.deepEqual([bytes.readUInt32BE(16), bytes.readUInt32BE(20)], [320, 240]);
    // Seen as in a mirror, as on the stage; but for the points it is the drawn picture.
    const same = await own.evaluate(
      async (bytes) => {
        const { createSyntheticFace } = await import('/pkg/synthetic.js');
        const want = (await createSyntheticFace({ seed: 7, width: 320, height: 240 })).draw(0).data;
        const context = new OffscreenCanvas(320, 240).getContext('2d');
        context.drawImage(await createImageBitmap(new Blob([new Uint8Array(bytes)], { type: 'image/png' })), 0, 0);
        const { data } = context.getImageData(0, 0, 320, 240);
        let same = 0;
        for (let y = 0; y < 240; y++) {
          for (let x = 0; x < 320; x++)
            same += Number(Math.abs(data[4 * (y * 320 + x)] - want[4 * (y * 320 + 319 - x)]) < 24);
        }
        return same / (320 * 240);
      },
      [...bytes],
    );
    assert.ok(same > 0.9 && same < 0.9999, `${same} of the snapshot is the picture`);
    await own.click('#record');
    await own.waitForTimeout(1200);
    const film = await saved(own, '#record');
    assert.match(film.name, /\.webm$/);
    assert.ok(film.bytes.length > 1000);
    assert.deepEqual(faults, []);
  });
}

test('loading shows how far it is', async (t) => {
  const { page, context } = await open(t, { serviceWorkers: 'block' });
  let go;
  const held = new Promise((resolve) => (go = resolve));
  await context.route('**/compact.safetensors', async (route) => {
    await held;
    await route.continue();
  });
  await page.click('#play');
  await page.waitForSelector('#progress:visible');
  go();
  await page.waitForSelector('#progress', { state: 'hidden' });
  await running(page);
});

// ------------------------------------------------------------------------------------------- nets

/** A run's state as a visitor reads it. */
const chosenNet = (page) =>
  page.evaluate(() => {
    const picker = document.querySelector('#net-choice');
    return {
      chosen: picker.selectedOptions[0].textContent,
      all: [...picker.options].map((option) => option.textContent),
      about: document.querySelector('#net-about').textContent,
    };
  });

test('every net that lies beside the page is loaded when it is chosen, and follows the sample', async (t) => {
  const { page, faults } = await open(t, { serviceWorkers: 'block' });
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  await page.click('summary:has-text("Tracking")');
  await page.click('summary:has-text("Save")');
  await playSample(page);
  const ids = await page.evaluate(() => [...document.querySelector('#net-choice').options].map((o) => o.value));
  for (const id of ids.toReversed()) {
    asked.length = 0;
    await page.selectOption('#net-choice', id);
    await running(page);
    await page.waitForTimeout(1000);
    const { faces } = JSON.parse((await saved(page, '#json')).bytes.toString());
    const [face] = faces.slice(-1);
    assert.equal(face.keypoints.length, id === 'compact68' ? 68 : 15, id);
    // All on the face, which fills the guide's square: 0.6 of the frame's short side.
    const { keypoints, box } = face;
    for (const { name, x, y } of keypoints)
      assert.ok(
        Math.hypot(x - box.x, y - box.y) < box.size,
        `${id}: ${name} at ${x}, ${y}, the face at ${box.x}, ${box.y}`,
      );
    // A worker of its own, its own weights and the finder's, from this server.
    const weights = asked.filter((path) => path.endsWith('.safetensors') && !path.endsWith('/finder.safetensors'));
    assert.deepEqual(
      weights.map((path) => path.split('/').at(-1)),
      [`${id}.safetensors`],
    );
  }
  assert.ok(ids.length >= 2);
  assert.deepEqual(faults, []);
});

test('a net that is chosen right after Stop is loaded, and starts nothing', async (t) => {
  const { page } = await open(t);
  await playSample(page);
  await page.evaluate(() => {
    document.querySelector('#stop').click();
    const picker = document.querySelector('#net-choice');
    picker.value = 'compact68';
    picker.dispatchEvent(new Event('change'));
  });
  await status(page, 'is loaded');
  await page.waitForTimeout(500);
  assert.equal(await page.isVisible('#start'), true);
});

test("a visitor's own net is loaded by the picker, by dropping it and by ?weights=, and drawn by its own schema", async (t) => {
  const { page, context, faults } = await open(t, { serviceWorkers: 'block' });
  const four = fewerKeypoints(4);
  await page.click('summary:has-text("Tracking")');
  const offered = (await chosenNet(page)).all;
  assert.deepEqual(offered.slice(0, 2), ['15 points', '68 points']);
  await page.setInputFiles('#file', { name: 'eyes.safetensors', mimeType: '', buffer: four });
  await status(page, 'eyes.safetensors is loaded: 4 points.');
  const { chosen, all, about } = await chosenNet(page);
  assert.deepEqual([chosen, all], ['eyes.safetensors', [...offered, 'eyes.safetensors']]);
  assert.match(about, /kB$/);
  await playSample(page);
  const points = async () => {
    await page.waitForTimeout(600);
    return JSON.parse((await saved(page, '#json')).bytes.toString()).faces.at(-1).keypoints.length;
  };
  await page.click('summary:has-text("Save")');
  assert.equal(await points(), 4);
  // While something runs, it goes on with the other one.
  await page.selectOption('#net-choice', 'compact');
  await page.waitForFunction(() => document.querySelector('#net-choice').value === 'compact');
  await running(page);
  assert.equal(await points(), 15);
  await page.click('#stop');
  await page.evaluate(
    (bytes) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], 'dropped.safetensors'));
      document
        .querySelector('#stage')
        .dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
    },
    [...four],
  );
  await status(page, 'dropped.safetensors is loaded: 4 points.');
  await context.route('**/eyes.safetensors', (route) => route.fulfill({ body: four }));
  await page.goto(`${shared.url}?weights=eyes.safetensors`);
  await playSample(page);
  await page.click('summary:has-text("Save")');
  assert.equal(await points(), 4);
  assert.deepEqual(faults, []);
});

test('a net of something else follows the square in the middle', async (t) => {
  const { page } = await open(t, { serviceWorkers: 'block' });
  const cat = fewerKeypoints(4, ['left_ear', 'right_ear', 'left_paw', 'right_paw']);
  await page.setInputFiles('#file', { name: 'cat.safetensors', mimeType: '', buffer: cat });
  await status(page, 'cat.safetensors is loaded: 4 points.');
  await page.click('#play');
  await status(page, 'square');
  assert.ok(await page.evaluate(() => document.querySelector('#guide rect').checkVisibility()), 'the square is shown');
  const [width, height, side] = await page.evaluate(() => [
    ...['width', 'height'].map((name) => document.querySelector('#guide').viewBox.baseVal[name]),
    document.querySelector('#guide rect').width.baseVal.value,
  ]);
  assert.equal(Math.round(side), Math.round(0.6 * Math.min(width, height)));
});

test('what is no net is told, wherever it comes from, and the one before works', async (t) => {
  const { page, context } = await open(t, { serviceWorkers: 'block' });
  for (const [name, buffer] of [
    ['foreign.safetensors', foreignWeights()],
    ['cut.safetensors', readFileSync(weightsPath).subarray(0, 100_000)],
    ['empty.safetensors', Buffer.alloc(0)],
    ['finder.safetensors', readFileSync(finderPath)],
  ]) {
    await page.setInputFiles('#file', { name, mimeType: '', buffer });
    await page.waitForFunction(
      (name) => document.querySelector('#status.error')?.textContent.startsWith(`${name} cannot be used: `),
      name,
      { timeout: 20_000 },
    );
    assert.equal((await chosenNet(page)).chosen, '15 points');
  }
  await playSample(page);
  await context.route('**/none.safetensors', (route) => route.fulfill({ status: 404, body: '' }));
  await page.goto(`${shared.url}?weights=none.safetensors`);
  await page.click('#play');
  await status(page, 'answered 404');
  await page.goto(`${shared.url}?weights=https://example.org/net.safetensors`);
  await status(page, 'own origin');
  await playSample(page);
});

// ------------------------------------------------------------------------------------------- places

test('in a sandboxed frame, where there are no workers and nothing is kept, it paints all the same', async (t) => {
  const opened = await countRequests(t, shared.url, '/', { 'Access-Control-Allow-Origin': '*' });
  const page = await shared.browser.newPage();
  t.after(() => page.close());
  await page.setContent(`<iframe sandbox="allow-scripts" width="1200" height="800" src="${opened.url}"></iframe>`);
  const frame = page.frames()[1];
  await frame.waitForSelector('#play');
  await playSample(frame);
  const before = await frame.evaluate(inkOf, '#overlay');
  await frame.waitForFunction(`(${inkOf})('#overlay') !== ${before}`, null, { timeout: 5000 });
  assert.ok((await frame.evaluate(inkOf, '#crop-list canvas')) > 0, 'the crop is shown');
});

test('opened as a file, or without a part of itself, it says what to do', async (t) => {
  const page = await shared.browser.newPage();
  t.after(() => page.close());
  await page.goto(`file://${root}www/index.html`);
  await status(page, 'put its folder on any web server');
  assert.ok(await page.isDisabled('#start'));
  const { page: broken, context } = await openPage(t, shared.browser, 'about:blank', { serviceWorkers: 'block' });
  await context.route('**/stage.js', (route) => route.fulfill({ status: 404, body: '' }));
  await broken.goto(shared.url);
  await status(broken, 'did not arrive');
});

test('without JavaScript it says that it needs it', { needs: 'settings' }, async (t) => {
  const { page } = await open(t, { javaScriptEnabled: false });
  assert.match(await page.innerText('main'), /needs JavaScript/);
});

// ------------------------------------------------------------------------------------------- what a newcomer meets

test('while something runs, the other sources are a press away', { needs: 'files' }, async (t) => {
  const { page } = await open(t);
  const offered = () =>
    page.evaluate(() =>
      [...document.querySelectorAll('#controls button')]
        .filter((button) => button.checkVisibility())
        .map(({ id }) => id),
    );
  assert.deepEqual(await offered(), ['start', 'play', 'open']);
  await playSample(page);
  assert.deepEqual(await offered(), ['stop', 'snapshot', 'record', 'to-camera', 'to-file']);
  await page.click('#to-camera');
  await page.waitForFunction(() => document.querySelector('#video').srcObject !== null);
  assert.deepEqual(await offered(), ['stop', 'snapshot', 'record', 'to-sample', 'to-file']);
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.click('#to-file')]);
  await chooser.setFiles({ name: 'face.png', mimeType: 'image/png', buffer: await sampleImage(page) });
  await status(page, 'face.png: 1 face found');
  assert.deepEqual(await offered(), ['stop', 'snapshot', 'to-camera', 'to-sample', 'to-file']);
  await page.click('#to-sample');
  await page.waitForSelector('.stage.found');
});

test('faces are numbered from 1 in every run, on the page and in what is saved', async (t) => {
  const { page } = await open(t);
  await page.click('summary:has-text("Tracking")');
  await page.click('summary:has-text("Save")');
  const shown = () =>
    page.evaluate(() =>
      [...document.querySelectorAll('#poses tr')]
        .filter((row) => row.cells[1].textContent !== '–')
        .map((row) => row.cells[0].textContent),
    );
  for (let round = 0; round < 2; round++) {
    await page.click('label:has([data-setting="faces"][value="1"])');
    await playSample(page);
    await page.click('label:has([data-setting="faces"][value="4"])');
    await page.waitForFunction(
      () => [...document.querySelectorAll('#poses tr')].filter((row) => row.cells[1].textContent !== '–').length === 4,
      null,
      { timeout: 20_000 },
    );
    assert.deepEqual((await shown()).sort(), ['1', '2', '3', '4']);
    await page.click('#stop');
    const { faces } = JSON.parse((await saved(page, '#json')).bytes.toString());
    assert.deepEqual([...new Set(faces.map(({ trackId }) => trackId))].sort(), [1, 2, 3, 4]);
  }
});

test('a still picture shows no readings of a stream', async (t) => {
  const { page } = await open(t);
  await page.setInputFiles('#file', { name: 'face.png', mimeType: 'image/png', buffer: await sampleImage(page) });
  await status(page, 'face.png: 1 face found in ');
  for (const id of ['fps', 'p95', 'dropped', 'chart']) assert.equal(await page.isVisible(`#${id}`), false, id);
  await page.click('#to-sample');
  await running(page);
  for (const id of ['fps', 'p95', 'dropped', 'chart']) assert.ok(await page.isVisible(`#${id}`), id);
});

test('where no face is found, it says how large one has to be', async (t) => {
  const { page } = await open(t);
  await page.setInputFiles('#file', { name: 'black.png', mimeType: 'image/png', buffer: blackPng(1000, 800) });
  await status(page, 'black.png: no face found. Faces of less than about 100 pixels');
  await page.click('#to-camera'); // Chromium's test picture
  await status(page, "at least an eighth of the picture's height");
});

test('pictures that the system knows no type of are opened; those of Apple cameras are named', async (t) => {
  const { page } = await open(t);
  await page.setInputFiles('#file', { name: 'face.jfif', mimeType: '', buffer: await sampleImage(page) });
  await status(page, 'face.jfif: 1 face found');
  const heic = Buffer.concat([Buffer.from([0, 0, 0, 24]), Buffer.from('ftypheic'), Buffer.alloc(40)]);
  for (const [name, mimeType] of [
    ['IMG_1.HEIC', ''],
    ['IMG_1.heic', 'image/heic'],
    ['IMG_1.jpg', 'image/jpeg'],
  ]) {
    await page.setInputFiles('#file', { name, mimeType, buffer: heic });
    await status(page, `${name} is HEIC`);
  }
});

// ------------------------------------------------------------------------------------------- files

test('pictures and videos: by the picker, dropped and pasted', { timeout: 90_000 }, async (t) => {
  const { page, faults } = await open(t);
  const png = await sampleImage(page);
  const found = () => page.waitForSelector('.stage.found', { timeout: 20_000 });
  await page.setInputFiles('#file', { name: 'face.png', mimeType: 'image/png', buffer: png });
  await found();
  await status(page, 'face.png: 1 face found');
  await page.click('#stop');
  /** Hands the file to the page as the event of this name would. */
  const hand = (event, name) =>
    page.evaluate(
      ([event, name, bytes]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], name, { type: 'image/png' }));
        const Kind = event === 'paste' ? ClipboardEvent : DragEvent;
        const field = event === 'paste' ? 'clipboardData' : 'dataTransfer';
        const handed = new Kind(event, { [field]: transfer, bubbles: true, cancelable: true });
        // Firefox makes paste events by `data` alone.
        if (!handed[field]?.files.length) Object.defineProperty(handed, field, { value: transfer });
        document.querySelector('#stage').dispatchEvent(handed);
      },
      [event, name, [...png]],
    );
  await hand('dragenter', 'dropped.png');
  assert.ok(await page.isVisible('#drop'), 'the page shows where to drop');
  await hand('drop', 'dropped.png');
  assert.equal(await page.isVisible('#drop'), false);
  await found();
  await hand('paste', 'pasted.png');
  await status(page, 'pasted.png');
  await found();
  await page.click('#stop');
  // The page's own recording is a video that every browser with a recorder can play.
  await playSample(page);
  await page.click('#record');
  await page.waitForTimeout(2000);
  const { name, bytes } = await saved(page, '#record');
  assert.match(name, /^face96-\d{4}-\d\d-\d\d-\d{6}\.webm$/);
  await page.click('#stop');
  await page.setInputFiles('#file', { name: 'clip.webm', mimeType: 'video/webm', buffer: bytes });
  await found();
  await status(page, 'clip.webm has ended');
  assert.ok(await page.isVisible('#picture'), 'its last frame stays');
  assert.equal(await page.isVisible('#stop'), false);
  assert.deepEqual(faults, []);
});

/** A PNG of black pixels, one bit each: any size in a few kilobytes. */
function blackPng(width, height) {
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head[8] = 1;
  const rows = deflateSync(Buffer.alloc(height * (1 + Math.ceil(width / 8))));
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', head),
    chunk('IDAT', rows),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

test('a file that cannot be shown is named, with the reason, and the next one opens', async (t) => {
  const { page } = await open(t);
  const png = await sampleImage(page);
  for (const [name, mimeType, buffer, sentence] of [
    ['notes.txt', 'text/plain', Buffer.from('hello'), 'notes.txt is neither a picture nor a video.'],
    ['nothing.png', 'image/png', Buffer.alloc(0), 'nothing.png is empty.'],
    ['broken.png', 'image/png', Buffer.from('hello'), 'broken.png is damaged, or a kind of picture'],
    ['broken.mp4', 'video/mp4', Buffer.from('hello'), 'broken.mp4 is damaged, or a kind of video'],
    [
      'huge.png',
      'image/png',
      blackPng(20_000, 10_000),
      'huge.png has 20000 × 10000 pixels; a picture may have 64 million.',
    ],
  ]) {
    await page.setInputFiles('#file', { name, mimeType, buffer });
    await status(page, sentence);
    await page.waitForSelector('#stop', { state: 'hidden' });
  }
  await page.setInputFiles('#file', { name: 'face.png', mimeType: 'image/png', buffer: png });
  await page.waitForSelector('.stage.found', { timeout: 20_000 });
});

test('the points of a big picture are saved in its own pixels', async (t) => {
  const { page } = await open(t);
  const scale = 8;
  const { bytes, points } = await page.evaluate(async (scale) => {
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
    const small = await createImageBitmap(face.draw(0));
    const canvas = new OffscreenCanvas(320 * scale, 240 * scale);
    canvas.getContext('2d').drawImage(small, 0, 0, canvas.width, canvas.height);
    return {
      bytes: [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())],
      points: face.keypoints(0),
    };
  }, scale);
  await page.setInputFiles('#file', { name: 'big.png', mimeType: 'image/png', buffer: Buffer.from(bytes) });
  await page.waitForSelector('.stage.found', { timeout: 20_000 });
  await page.waitForTimeout(1000);
  await page.click('summary:has-text("Save")');
  const log = JSON.parse((await saved(page, '#json')).bytes.toString());
  assert.deepEqual([log.source, log.width, log.height], ['big.png', 320 * scale, 240 * scale]);
  const face = log.faces.at(-1);
  const errors = face.keypoints.map((p, k) => Math.hypot(p.x - scale * points[k].x, p.y - scale * points[k].y));
  const mean = errors.reduce((a, b) => a + b) / errors.length / (face.box.size / 96);
  assert.ok(mean < 4, `mean error ${mean.toFixed(2)} px of 96`);
});

// ------------------------------------------------------------------------------------------- what can be saved

test('a snapshot is a PNG of the frame, with and without the points', async (t) => {
  const { page } = await open(t);
  await page.setInputFiles('#file', { name: 'face.png', mimeType: 'image/png', buffer: await sampleImage(page) });
  await status(page, 'face.png: 1 face found');
  const withPoints = await saved(page, '#snapshot');
  assert.match(withPoints.name, /^face96-\d{4}-\d\d-\d\d-\d{6}\.png$/);
  await page.click('summary:has-text("Save")');
  await page.click('[data-setting="snapshotPoints"]');
  const without = await saved(page, '#snapshot');
  for (const { bytes } of [withPoints, without])
    assert.deepEqual([bytes.readUInt32BE(16), bytes.readUInt32BE(20)], [320, 240]);
  const pixels = await page.evaluate(
    async (files) => {
      const images = [];
      for (const file of files) {
        const bitmap = await createImageBitmap(new Blob([new Uint8Array(file)], { type: 'image/png' }));
        const context = new OffscreenCanvas(320, 240).getContext('2d');
        context.drawImage(bitmap, 0, 0);
        images.push(context.getImageData(0, 0, 320, 240).data);
      }
      const { createSyntheticFace } = await import('/pkg/synthetic.js');
      const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
      const drawn = face.draw(0).data;
      const differ = (a, b) => a.reduce((n, byte, i) => n + (Math.abs(byte - b[i]) > 1), 0);
      return [differ(images[0], drawn), differ(images[1], drawn)];
    },
    [[...withPoints.bytes], [...without.bytes]],
  );
  assert.ok(pixels[0] > 100, 'points are in the first');
  assert.equal(pixels[1], 0, 'the second is the picture alone');
});

test('the log of a run is saved as JSON and CSV with the same numbers', async (t) => {
  const { page } = await open(t);
  await playSample(page);
  await page.waitForTimeout(1000);
  await page.click('#stop');
  await page.click('summary:has-text("Save")');
  const json = JSON.parse((await saved(page, '#json')).bytes.toString());
  const csv = (await saved(page, '#csv')).bytes
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => line.split(','));
  const [header, ...rows] = csv;
  assert.equal(json.program, 'face96');
  assert.equal(json.kind, 'sample');
  assert.ok(json.faces.length > 5);
  assert.equal(rows.length, json.faces.length);
  assert.deepEqual(header.slice(0, 3), ['timestamp_ms', 'face', 'score']);
  const first = Object.fromEntries(header.map((name, i) => [name, Number(rows[0][i])]));
  const [face] = json.faces;
  assert.equal(face.keypoints.length, 15);
  for (const { name, x, y, confidence } of face.keypoints) {
    assert.deepEqual([first[`${name}_x`], first[`${name}_y`], first[`${name}_confidence`]], [x, y, confidence]);
  }
  assert.deepEqual(
    [first.timestamp_ms, first.face, first.box_size, first.yaw],
    [face.timestamp, face.trackId, face.box.size, face.pose.yaw],
  );
  const times = json.faces.map((f) => f.timestamp);
  assert.deepEqual(
    times,
    [...times].sort((a, b) => a - b),
    'the newest is last',
  );
});

test('a log that outgrows its room keeps the newest rows, in order', async (t) => {
  const { page } = await open(t);
  const { rows, first, last } = await page.evaluate(async () => {
    const { KeypointLog } = await import('/log.js');
    const log = new KeypointLog();
    log.start(['nose'], {});
    const pose = { yaw: 0, pitch: 0, roll: 0 };
    for (let n = 0; n < 20_050; n++) {
      log.add(
        n,
        [
          {
            trackId: 1,
            score: 1,
            box: { x: 0, y: 0, size: 1, roll: 0 },
            pose,
            mouthOpen: 0,
            keypoints: [{ name: 'nose', x: n, y: 0, confidence: 1 }],
          },
        ],
        1,
      );
    }
    const lines = log.csv().trimEnd().split('\n');
    return { rows: log.rows, first: lines[1], last: lines.at(-1) };
  });
  assert.equal(rows, 20_000);
  assert.match(first, /^50,.*,50,0,1$/);
  assert.match(last, /^20049,.*,20049,0,1$/);
});

test('a recording holds the frames with their points, and ends with the run', async (t) => {
  const { page } = await open(t);
  await playSample(page);
  const pressed = performance.now();
  await page.click('#record');
  assert.equal(await page.getAttribute('#record', 'aria-pressed'), 'true');
  await page.waitForTimeout(2500);
  const shown = await page.textContent('#recorded');
  // On a busy machine more time has passed than was waited for.
  const longest = () => (performance.now() - pressed) / 1000 + 0.5;
  assert.match(shown, /^0:\d\d$/);
  const seconds = Number(shown.slice(2));
  assert.ok(seconds >= 1 && seconds <= longest(), `${seconds} s are shown`);
  const { name, bytes } = await saved(page, '#stop');
  const most = longest();
  assert.match(name, /\.webm$/);
  const { width, height, time } = await page.evaluate(
    async (bytes) => {
      const video = document.createElement('video');
      video.muted = true;
      video.src = URL.createObjectURL(new Blob([new Uint8Array(bytes)], { type: 'video/webm' }));
      await video.play();
      await new Promise((resolve) => (video.onended = resolve));
      return { width: video.videoWidth, height: video.videoHeight, time: video.currentTime };
    },
    [...bytes],
  );
  assert.deepEqual(
    [width, height],
    await page.evaluate(() => {
      const { clientWidth, clientHeight } = document.querySelector('#stage');
      return [Math.round((360 * clientWidth) / clientHeight), 360];
    }),
  );
  assert.ok(time > 1 && time < most, `it plays ${time} s`);
});

test('another start ends the recording of what ran before', async (t) => {
  const { page } = await open(t);
  const png = await sampleImage(page);
  await playSample(page);
  await page.click('#record');
  await page.waitForTimeout(1000);
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.setInputFiles('#file', { name: 'face.png', mimeType: 'image/png', buffer: png }),
  ]);
  assert.match(download.suggestedFilename(), /webm$/);
  await status(page, 'face.png: 1 face found');
  assert.equal(await page.isVisible('#recording'), false);
  assert.equal(await page.isVisible('#record'), false, 'a still picture makes no film');
});

test('a browser that cannot record says so', async (t) => {
  const { page } = await open(t);
  // A second after its face is steady the run has something to say, and that waits until the answer could be read.
  const shown = await page.evaluate(async () => {
    delete window.MediaRecorder;
    const has = (node, what) =>
      new Promise((resolve) => {
        const look = () => what() && resolve(performance.now());
        new MutationObserver(look).observe(node, {
          attributes: true,
          childList: true,
          characterData: true,
          subtree: true,
        });
      });
    const [line, stage] = ['#status', '.stage'].map((selector) => document.querySelector(selector));
    document.querySelector('#play').click();
    await has(stage, () => stage.classList.contains('found'));
    const answered = has(line, () => line.textContent.includes('cannot record'));
    const followed = has(line, () => line.textContent.includes('Following 1 face'));
    document.querySelector('#record').click();
    return (await followed) - (await answered);
  });
  assert.ok(shown > 2900, `the answer was shown for ${shown} ms`);
  assert.ok(await page.isVisible('#stop'), 'the run goes on');
});

// ------------------------------------------------------------------------------------------- time

test('a hidden page computes nothing, and goes on when it is shown', async (t) => {
  const { page } = await open(t);
  const frames = () =>
    page.evaluate(() => Number(document.querySelector('#logged').textContent.match(/in (\d+) frames/)?.[1] ?? 0));
  const hide = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
  await page.click('summary:has-text("Save")');
  await playSample(page);
  await page.waitForTimeout(500);
  await hide(true);
  await page.waitForTimeout(700);
  const before = await frames();
  await page.waitForTimeout(1500);
  assert.equal(await frames(), before);
  await hide(false);
  await page.waitForFunction(
    (before) => Number(document.querySelector('#logged').textContent.match(/in (\d+)/)[1]) > before + 5,
    before,
  );
});

test('a slow device drops frames and never queues them', { needs: 'workers' }, async (t) => {
  const { page } = await open(t);
  await page.click('#start');
  await running(page);
  const slowReadsSoFar = await slowReads(page);
  await page.waitForTimeout(4000);
  const [rate, dropped, p95] = await page.evaluate(() =>
    ['fps', 'dropped', 'p95'].map((id) => Number(document.querySelector(`#${id}`).textContent)),
  );
  const slowed = await slowReadsSoFar();
  t.diagnostic(`120 ms a frame: ${rate} frames/s, ${dropped} dropped, 95 % within ${p95} ms`);
  assert.ok(slowed >= 8, `only ${slowed} frames were slow`);
  assert.ok(rate <= 1000 / 120 + 1, `${rate} frames/s`);
  assert.ok(dropped >= 10, 'the camera gives 20 frames a second: what is not computed is dropped');
  // Were frames queued, each would wait longer than the one before: two seconds by now.
  assert.ok(p95 < 600, `95 % within ${p95} ms`);
});

test('the status line is not renewed with each frame', async (t) => {
  const { page } = await open(t);
  await playSample(page);
  const changes = await page.evaluate(
    () =>
      new Promise((resolve) => {
        let changes = 0;
        new MutationObserver((list) => (changes += list.length)).observe(document.querySelector('#status'), {
          childList: true,
          characterData: true,
          subtree: true,
        });
        setTimeout(() => resolve(changes), 4000);
      }),
  );
  assert.ok(changes <= 4, `${changes} changes in 4 s`);
});

// ------------------------------------------------------------------------------------------- settings

test('each choice of the view changes what is drawn', async (t) => {
  const { page } = await open(t);
  await page.setInputFiles('#file', { name: 'face.png', mimeType: 'image/png', buffer: await sampleImage(page) });
  await status(page, 'face.png: 1 face found');
  let last = await otherInk(page, 0);
  for (const setting of ['points', 'points', 'lines', 'labels', 'boxes', 'colours']) {
    await page.click(`label:has([data-setting="${setting}"])`);
    const now = await otherInk(page, last);
    assert.notEqual(now, last, setting);
    last = now;
  }
  assert.ok((await page.evaluate(inkOf, '#crop-list canvas')) > 0, 'the crop shows the face');
  await page.click('label:has([data-setting="crop"])');
  assert.equal(await page.isVisible('#crops'), false);
});

test('settings outlive the visit', async (t) => {
  const { page, context } = await open(t);
  await page.click('summary:has-text("Tracking")');
  await page.click('label:has([data-setting="labels"])');
  await page.click('label:has([data-setting="faces"][value="3"])');
  await page.fill('#smoothing', '3');
  await page.click('#theme');
  const again = await context.newPage();
  await again.goto(shared.url);
  assert.ok(await again.isChecked('[data-setting="labels"]'));
  assert.ok(await again.isChecked('[data-setting="faces"][value="3"]'));
  assert.equal(await again.inputValue('#smoothing'), '3');
  assert.equal(await again.evaluate(() => document.documentElement.dataset.theme), 'dark');
  await again.evaluate(() => localStorage.setItem('face96', '{"faces":"many","smoothing":99,"theme":7'));
  await again.reload();
  assert.ok(await again.isChecked('[data-setting="faces"][value="1"]'), 'what cannot be read is left aside');
});
