// Pictures of the page, made by the page itself in headless Chromium; `make web` and the program come first.
//   node tools/pictures.js icons         www/icon-*.png from www/icon.svg
//   node tools/pictures.js docs          docs/*.webp, which the README shows: the drawn sample only
//   node tools/pictures.js states [DIR]  every state in three sizes and both themes, to look at (default target/pictures)
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, root, serve } from '../tests/browser/harness.js';

const SIZES = { phone: [360, 740], tablet: [768, 1024], desktop: [1280, 800] };
const endings = [];
const context = { after: (end) => endings.push(end) };
const [what, folder = join(root, 'target/pictures')] = process.argv.slice(2);
try {
  if (what === 'icons') await icons();
  else if (what === 'docs') await docs();
  else if (what === 'states') await states();
  else throw new Error(`expected icons, docs or states, found ${what}`);
} finally {
  for (const end of endings.reverse()) await end();
}

async function icons() {
  const browser = await launch(context);
  const svg = readFileSync(join(root, 'www/icon.svg'), 'utf8');
  for (const [name, side, share] of [['icon-192', 192, 1], ['icon-512', 512, 1], ['icon-maskable', 512, 0.8]]) {
    const page = await browser.newPage({ viewport: { width: side, height: side } });
    // A maskable icon is cut to any shape: its square is filled, what matters lies in the middle 80 %.
    const fill = share < 1 ? '#12352a' : 'transparent';
    await page.setContent(`<style>body { margin: 0; height: 100vh; display: grid; place-content: center; background: ${fill} }
      svg { width: ${side * share}px }</style>${svg}`);
    await page.screenshot({ path: join(root, `www/${name}.png`), omitBackground: true });
    await page.close();
  }
}

/** Opens the page; `theme` is the system's. */
async function open(browser, url, [width, height], theme, settings = {}, scale = 1) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, deviceScaleFactor: scale, acceptDownloads: true });
  const page = await context.newPage();
  await page.addInitScript((s) => localStorage.setItem('face96', JSON.stringify(s)), settings);
  await page.goto(url);
  return page;
}

/** Until the readings of the sample stand. */
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
    // Chromium writes WebP from a canvas; it has a third of a PNG's bytes.
    const webp = await page.evaluate(async (bytes) => {
      const bitmap = await createImageBitmap(new Blob([new Uint8Array(bytes)], { type: 'image/png' }));
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      canvas.getContext('2d').drawImage(bitmap, 0, 0);
      const blob = await canvas.convertToBlob({ type: 'image/webp', quality: 0.9 });
      return [...new Uint8Array(await blob.arrayBuffer())];
    }, [...png]);
    writeFileSync(join(root, `docs/${name}.webp`), Buffer.from(webp));
    await page.context().close();
  }
}

async function states() {
  const url = await serve(context);
  const browser = await launch(context);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [sizeName, size] of Object.entries(SIZES)) {
    for (const theme of ['light', 'dark']) {
      const full = sizeName !== 'desktop';
      const shot = (page, state, fullPage = full) => page.screenshot({ path: join(folder, `${state}-${sizeName}-${theme}.png`), fullPage });
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
