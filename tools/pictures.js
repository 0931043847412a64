// Pictures of the page, made by the page itself in headless Chromium; build with `make web` and `make native` first.
//   node tools/pictures.js icons         www/icon-*.png from www/icon.svg
//   node tools/pictures.js docs          docs/page-*.webp, which the README shows: the drawn sample only
//   node tools/pictures.js moving        docs/moving.webp, at the README's top: the sample frame by frame, however slow the machine
//   node tools/pictures.js states [DIR]  every state in three sizes and both themes, to look at (default target/pictures)
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, root, serve } from '../tests/browser/harness.js';

const SIZES = { phone: [360, 740], tablet: [768, 1024], desktop: [1280, 800] };
/** Frames a second of the moving picture; the sample is tracked at twice as many. */
const RATE = 15;
/** Start and end of the part of the sample that shows most: it speaks, turns and blinks. In seconds. */
const PLAYED = [2.4, 8.4];
const endings = [];
const context = { after: (end) => endings.push(end) };
const [what, folder = join(root, 'target/pictures')] = process.argv.slice(2);
try {
  if (what === 'icons') await icons();
  else if (what === 'docs') await docs();
  else if (what === 'moving') await moving();
  else if (what === 'states') await states();
  else throw new Error(`expected icons, docs, moving or states, found ${what}`);
} finally {
  for (const end of endings.reverse()) await end();
}

async function icons() {
  const browser = await launch(context);
  const svg = readFileSync(join(root, 'www/icon.svg'), 'utf8');
  for (const [name, side, share] of [
    ['icon-192', 192, 1],
    ['icon-512', 512, 1],
    ['icon-maskable', 512, 0.8],
  ]) {
    const page = await browser.newPage({ viewport: { width: side, height: side } });
    // A maskable icon is cut to any shape: its square is filled, and the essential part lies in the middle 80 %.
    const fill = share < 1 ? '#12352a' : 'transparent';
    await page.setContent(`<style>body { margin: 0; height: 100vh; display: grid; place-content: center; background: ${fill} }
      svg { width: ${side * share}px }</style>${svg}`);
    await page.screenshot({ path: join(root, `www/${name}.png`), omitBackground: true });
    await page.close();
  }
}

/** Opens the page; `theme` is the system's. */
async function open(browser, url, [width, height], theme, settings = {}, scale = 1) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: theme,
    deviceScaleFactor: scale,
    acceptDownloads: true,
  });
  const page = await context.newPage();
  await page.addInitScript((s) => localStorage.setItem('face96', JSON.stringify(s)), settings);
  await page.goto(url);
  return page;
}

/** Waits until the readings of the sample are stable. */
async function settle(page) {
  await page.waitForSelector('.stage.found', { timeout: 30_000 });
  await page.waitForTimeout(3500);
}

async function docs() {
  const url = await serve(context);
  const browser = await launch(context);
  mkdirSync(join(root, 'docs'), { recursive: true });
  for (const [name, size, theme, settings] of [
    ['page-light', SIZES.desktop, 'light', {}],
    ['page-dark', SIZES.desktop, 'dark', { labels: true, boxes: true }],
    ['page-phone', SIZES.phone, 'dark', {}],
  ]) {
    const page = await open(browser, url, size, theme, settings);
    await page.click('#play');
    await page.mouse.move(0, 0);
    await settle(page);
    const png = await page.screenshot();
    // Chromium writes WebP from a canvas, with a third of a PNG's bytes.
    const webp = await page.evaluate(
      async (bytes) => {
        const bitmap = await createImageBitmap(new Blob([new Uint8Array(bytes)], { type: 'image/png' }));
        const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
        canvas.getContext('2d').drawImage(bitmap, 0, 0);
        const blob = await canvas.convertToBlob({ type: 'image/webp', quality: 0.9 });
        return [...new Uint8Array(await blob.arrayBuffer())];
      },
      [...png],
    );
    writeFileSync(join(root, `docs/${name}.webp`), Buffer.from(webp));
    await page.context().close();
  }
}

async function moving() {
  const url = await serve(context);
  const browser = await launch(context);
  const page = await browser.newPage();
  await page.goto(`${url}pkg/package.json`);
  const [width, height] = [640, 360];
  const frames = await page.evaluate(
    async ({ width, height, rate, from, to }) => {
      const { createDetector } = await import('/pkg/index.js');
      const { createSyntheticFace } = await import('/pkg/synthetic.js');
      const { drawFaces, fit } = await import('/pkg/draw.js');
      const detector = await createDetector({ weightsUrl: '/pkg/weights/compact68.safetensors' });
      const face = await createSyntheticFace({ seed: 7, width: 480, height });
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext('2d', { alpha: false });
      const bar = (name, value, y) => {
        context.fillStyle = '#9aa8a2';
        context.fillText(name, 496, y);
        context.fillStyle = '#2a3330';
        context.fillRect(496, y + 8, 128, 8);
        context.fillStyle = '#58f0b8';
        context.fillRect(496, y + 8, 128 * value, 8);
      };
      const frames = [];
      let happened = '';
      for (let i = 0; i < 2 * rate * (to - from); i++) {
        const seconds = from + i / (2 * rate);
        const picture = face.draw(seconds);
        const { faces, frame } = await detector.detect(picture, { timestamp: 1000 * seconds });
        happened = faces[0]?.events.at(-1) ?? happened;
        if (i % 2) continue;
        context.fillStyle = '#0e1211';
        context.fillRect(0, 0, width, height);
        context.putImageData(picture, 0, 0);
        drawFaces(context, faces, {
          view: fit(frame, { width: 480, height }, { pixel: 1 }),
          edges: detector.info.schema.edges,
          confidence: 'colour',
        });
        context.font = '15px system-ui, sans-serif';
        context.fillStyle = '#e9eeeb';
        const [found] = faces;
        if (found) {
          const degrees = (radians) => `${Math.round((180 * radians) / Math.PI)}°`.replace('-', '−');
          context.fillText(`yaw ${degrees(found.pose.yaw)}`, 496, 40);
          context.fillText(`pitch ${degrees(found.pose.pitch)}`, 496, 64);
          context.fillText(`roll ${degrees(found.pose.roll)}`, 496, 88);
          bar('eyes', (found.eyes.left.open + found.eyes.right.open) / 2, 128);
          bar('mouth', found.mouth.open, 172);
          bar('smile', found.mouth.wide, 216);
          bar('brows', (found.brows.left.raise + found.brows.right.raise) / 2, 260);
          context.fillStyle = '#e9eeeb';
          context.fillText(
            happened.replace('mouthopen', 'mouth opened').replace('mouthclose', 'mouth closed'),
            496,
            316,
          );
        }
        const bytes = new Uint8Array(
          await (await canvas.convertToBlob({ type: 'image/webp', quality: 0.8 })).arrayBuffer(),
        );
        frames.push(btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')));
      }
      return frames;
    },
    { width, height, rate: RATE, from: PLAYED[0], to: PLAYED[1] },
  );
  writeFileSync(
    join(root, 'docs/moving.webp'),
    animated(
      frames.map((webp) => Buffer.from(webp, 'base64')),
      width,
      height,
      1000 / RATE,
    ),
  );
}

/**
 * Still pictures in WebP as a moving one (developers.google.com/speed/webp/docs/riff_container). Each is stored whole, because encoders that
 * store the changes from one to the next leave blocks of old skin on a moving face.
 * @param {Buffer[]} stills
 * @param {number} width
 * @param {number} height
 * @param {number} delay of each, in ms
 */
function animated(stills, width, height, delay) {
  const numbers = (...list) =>
    Buffer.concat(
      list.map(([value, bytes]) => {
        const buffer = Buffer.alloc(bytes);
        buffer.writeUIntLE(value, 0, bytes);
        return buffer;
      }),
    );
  const chunk = (name, body) =>
    Buffer.concat([Buffer.from(name), numbers([body.length, 4]), body, Buffer.alloc(body.length % 2)]);
  // Only the pixels, without the profile that a canvas writes before them.
  const picture = (still) => {
    let at = 12;
    while (still.toString('latin1', at, at + 4) !== 'VP8 ')
      at += 8 + still.readUInt32LE(at + 4) + (still.readUInt32LE(at + 4) % 2);
    return still.subarray(at, at + 8 + still.readUInt32LE(at + 4) + (still.readUInt32LE(at + 4) % 2));
  };
  const size = [
    [width - 1, 3],
    [height - 1, 3],
  ];
  const frame = (still) =>
    chunk('ANMF', Buffer.concat([numbers([0, 3], [0, 3], ...size, [Math.round(delay), 3], [2, 1]), picture(still)]));
  const ANIMATED = 2;
  const parts = [
    chunk('VP8X', numbers([ANIMATED, 4], ...size)),
    chunk('ANIM', numbers([0, 4], [0, 2])),
    ...stills.map(frame),
  ];
  const body = Buffer.concat([Buffer.from('WEBP'), ...parts]);
  return Buffer.concat([Buffer.from('RIFF'), numbers([body.length, 4]), body]);
}

async function states() {
  const url = await serve(context);
  const browser = await launch(context);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [sizeName, size] of Object.entries(SIZES)) {
    for (const theme of ['light', 'dark']) {
      const full = sizeName !== 'desktop';
      const shot = (page, state, fullPage = full) =>
        page.screenshot({ path: join(folder, `${state}-${sizeName}-${theme}.png`), fullPage });
      let page = await open(browser, url, size, theme, { labels: false });
      await shot(page, 'idle');
      await page.click('#help');
      await shot(page, 'help', false);
      await page.keyboard.press('Escape');
      await page.click('#play');
      await settle(page);
      await shot(page, 'sample');
      await page.click('#record');
      await page.waitForTimeout(1200);
      await shot(page, 'recording');
      await page.context().close();
      page = await open(browser, url, size, theme, { labels: true, boxes: true, faces: 2 });
      await page.click('#play');
      await settle(page);
      await page.evaluate(() => document.querySelectorAll('details').forEach((d) => (d.open = true)));
      await shot(page, 'everything');
      await page.click('#stop');
      await page.click('#start');
      await page.waitForTimeout(2500);
      await shot(page, 'camera');
      await page.click('#stop');
      await page.setInputFiles('#file', { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('x') });
      await page.waitForSelector('.status.error');
      await shot(page, 'fault');
      await page.evaluate(() => document.querySelector('#drop').removeAttribute('hidden'));
      await shot(page, 'drop', false);
      await page.context().close();
    }
  }
  writeFileSync(join(folder, 'README'), 'Made by tools/pictures.js states.\n');
}
