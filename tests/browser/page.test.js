// The page: what a visitor meets, with and without a camera, and how each fault is told.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { foreignWeights, launch, serve, weightsPath } from './harness.js';

/** @type {import('playwright-core').Browser} */
let browser;
let url = '';
const endings = [];
before(async () => {
  const suite = { after: (f) => endings.push(f) };
  url = await serve(suite);
  browser = await launch(suite);
});
after(async () => {
  for (const end of endings.reverse()) await end();
});

/** Opens the page in a context of its own, so that no cache hides a routed fault. */
async function open(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  await page.goto(url);
  return { context, page, faults };
}

const status = (page, text) => page.waitForFunction((text) => document.querySelector('#status').textContent.includes(text), text, { timeout: 20_000 });
const running = (page) => page.waitForFunction(() => Number(document.querySelector('#fps').textContent) > 0, null, { timeout: 20_000 });

test('the sample plays with keypoints on the face, and stops', async (t) => {
  const { page, faults } = await open(t);
  await page.click('#play');
  await page.waitForSelector('.stage.found', { timeout: 20_000 });
  await running(page);
  const painted = await page.evaluate(() => {
    const canvas = document.querySelector('#overlay');
    return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte > 0);
  });
  assert.ok(painted, 'nothing is drawn over the sample');
  await page.click('#stop');
  await page.waitForSelector('#start:visible');
  assert.equal(await page.isVisible('#sample'), false);
  assert.deepEqual(faults, []);
});

test('the camera starts, stops and starts again; Stop switches it off', async (t) => {
  const { page, faults } = await open(t);
  for (let round = 0; round < 2; round++) {
    await page.click('#start');
    await running(page);
    const track = await page.evaluateHandle(() => document.querySelector('#video').srcObject.getVideoTracks()[0]);
    await page.click('#stop');
    await page.waitForSelector('#start:visible');
    assert.equal(await track.evaluate((t) => t.readyState), 'ended');
  }
  assert.deepEqual(faults, []);
});

test('works with the keyboard alone', async (t) => {
  const { page } = await open(t);
  await page.focus('body');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'start');
  await page.keyboard.press('Enter');
  await running(page);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'stop');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#start:visible');
});

test('nothing is requested after loading', async (t) => {
  const { context, page } = await open(t);
  await page.click('#play');
  await running(page);
  await page.click('#stop');
  const late = [];
  context.on('request', (request) => late.push(request.url()));
  for (const button of ['#play', '#stop', '#start', '#stop']) {
    await page.click(button);
    if (button !== '#stop') await page.waitForTimeout(1500);
  }
  assert.deepEqual(late, []);
});

test('fits a 360 px phone', async (t) => {
  const { page } = await open(t);
  await page.setViewportSize({ width: 360, height: 640 });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  assert.ok(await page.isVisible('#start'));
});

for (const [name, sentence] of [
  ['NotAllowedError', 'denied'],
  ['SecurityError', 'denied'],
  ['NotFoundError', 'No camera was found'],
  ['NotReadableError', 'in use'],
  ['OverconstrainedError', 'no picture size'],
  ['AbortError', 'stopped while it was starting'],
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
    track.stop(); // ends it without the event, which unplugging would send
    track.dispatchEvent(new Event('ended'));
  });
  await status(page, 'unplugged');
  await page.click('#start');
  await running(page);
});

for (const [what, pattern, answer, sentence] of [
  ['weights 404', '**/compact.safetensors', { status: 404, body: '' }, 'answered 404'],
  ['truncated weights', '**/compact.safetensors', { body: () => readFileSync(weightsPath).subarray(0, 100_000) }, 'cannot be used'],
  ['empty weights', '**/compact.safetensors', { body: '' }, 'cannot be used'],
  ['foreign weights', '**/compact.safetensors', { body: foreignWeights }, 'cannot be used'],
  ['wasm 404', '**/face96*_bg.wasm', { status: 404, body: '' }, 'answered 404'],
  ['damaged wasm', '**/face96*_bg.wasm', { body: 'not wasm' }, 'The browser refused'],
]) {
  test(`${what}: a sentence, and Start works again`, async (t) => {
    const { page, context } = await open(t);
    const body = typeof answer.body === 'function' ? answer.body() : answer.body;
    await context.route(pattern, (route) => route.fulfill({ ...answer, body }));
    await page.click('#start');
    await status(page, sentence);
    t.diagnostic(await page.textContent('#status'));
    await context.unroute(pattern);
    await page.click('#start');
    await running(page);
  });
}
