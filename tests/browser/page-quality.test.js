// The page's manners: accessible in every state and theme, without a mouse, on small screens, offline, and small.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { brotliCompressSync } from 'node:zlib';
import { WASM, pageFiles, writeOfflineFiles } from '../../tools/offline-files.js';
import { root, serve, suite, temporaryFolder } from './harness.js';
import { audit, countRequests, open as openPage, playSample, running } from './visitor.js';

const SIZES = {
  phone: { width: 360, height: 740 },
  tablet: { width: 768, height: 1024 },
  desktop: { width: 1280, height: 800 },
};
/** What a visitor downloads, compressed as servers do. */
const MAX_BYTES = 900_000;

const shared = suite();
const open = (t, options) => openPage(t, shared.browser, shared.url, options);

/** Everything on, every panel open. */
async function unfold(page) {
  await page.evaluate(() => {
    for (const details of document.querySelectorAll('details')) details.open = true;
    for (const name of ['labels', 'boxes', 'colours']) document.querySelector(`[data-setting="${name}"]`).click();
  });
}

/** What a visitor may see: name, and how to get there from a fresh page. */
const STATES = {
  idle: async () => {},
  'help open': (page) => page.click('#help'),
  'sample running': playSample,
  'everything unfolded, recording': async (page) => {
    await unfold(page);
    await playSample(page);
    await page.click('#record');
  },
  'camera without a face': async (page) => {
    // Not the browser's own fake camera: at some sizes its green disc is taken for a face.
    await page.evaluate(() => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 480 });
      const context = canvas.getContext('2d');
      let frame = 0;
      setInterval(() => {
        context.fillStyle = frame++ % 2 ? '#667' : '#677';
        context.fillRect(0, 0, 640, 480);
      }, 40);
      navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(25);
    });
    await page.click('#start');
    await page.waitForSelector('#hint:visible', { timeout: 20_000 });
  },
  'a fault': async (page) => {
    await page.setInputFiles('#file', { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('x') });
    await page.waitForSelector('.status.error');
  },
  'a file over the page': (page) => page.evaluate(() => (document.querySelector('#drop').hidden = false)),
  'a new version': (page) => page.evaluate(() => (document.querySelector('#update').hidden = false)),
};

for (const theme of ['light', 'dark']) {
  for (const size of ['phone', 'desktop']) {
    test(`axe finds nothing: ${theme}, ${size}`, { timeout: 120_000 }, async (t) => {
      for (const [state, enter] of Object.entries(STATES)) {
        const { page, context } = await open(t, { viewport: SIZES[size], colorScheme: theme });
        await enter(page);
        assert.deepEqual(await audit(page), [], state);
        await context.close();
      }
    });
  }
}

test('the theme follows the system until one is chosen', async (t) => {
  const { page } = await open(t, { colorScheme: 'dark' });
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await paper();
  await page.emulateMedia({ colorScheme: 'light' });
  const light = await paper();
  assert.notEqual(light, dark);
  await page.click('#theme');
  assert.equal(await paper(), dark);
  assert.equal(await page.getAttribute('#theme', 'aria-pressed'), 'true');
  await page.click('#theme');
  assert.equal(await paper(), light);
});

test('works with the keyboard alone, and shows where the focus is', async (t) => {
  const { page } = await open(t);
  const focused = () =>
    page.evaluate(() => {
      const element = document.activeElement;
      const shown = element.matches('.chip input, .segments input') ? element.nextElementSibling : element;
      return {
        id: element.id || element.dataset.setting || element.textContent.trim(),
        outline: getComputedStyle(shown).outlineStyle,
      };
    });
  const seen = [];
  for (let n = 0; n < 40; n++) {
    await page.keyboard.press('Tab');
    const { id, outline } = await focused();
    if (id === seen[0] || id.includes('face96')) break; // once around
    assert.notEqual(outline, 'none', `${id} has no visible focus`);
    seen.push(id);
  }
  for (const id of [
    'theme',
    'help',
    'start',
    'play',
    'open',
    'View',
    'points',
    'mirror',
    'Readings',
    'Tracking',
    'Save',
  ]) {
    assert.ok(seen.includes(id), `${id} is out of reach: ${seen}`);
  }
  await page.focus('#start');
  await page.keyboard.press('Enter');
  await running(page);
  assert.equal((await focused()).id, 'stop', 'the focus follows to the button in its place');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#stop', { state: 'hidden' });
  assert.equal((await focused()).id, 'start');
});

test('single keys work, can be switched off, and are left alone in a list', async (t) => {
  const { page } = await open(t);
  await page.keyboard.press('p');
  await page.waitForSelector('.stage.found', { timeout: 20_000 });
  await page.keyboard.press('2');
  assert.ok(await page.isChecked('[data-setting="faces"][value="2"]'));
  await page.keyboard.press('m');
  assert.equal(await page.isChecked('[data-setting="mirror"]'), false);
  await page.keyboard.press('r');
  await page.waitForSelector('#recording:visible');
  await page.keyboard.press('x');
  await page.waitForSelector('#stop', { state: 'hidden' });
  await page.keyboard.press('?');
  await page.waitForSelector('#help-dialog[open]');
  await page.click('.shortcuts summary');
  await page.click('[data-setting="shortcuts"]');
  await page.keyboard.press('Escape');
  await page.keyboard.press('p');
  await page.waitForTimeout(300);
  assert.equal(await page.isVisible('#stop'), false, 'switched off');
  await page.click('#help');
  await page.click('[data-setting="shortcuts"]');
  await page.keyboard.press('Escape');
  await page.click('summary:has-text("Tracking")');
  await page.focus('#camera');
  await page.keyboard.press('p');
  await page.waitForTimeout(300);
  assert.equal(await page.isVisible('#stop'), false, 'a letter in a list belongs to the list');
});

test('opening a panel moves nothing in the other column', async (t) => {
  const { page } = await open(t, { viewport: SIZES.tablet });
  const tops = () =>
    page.evaluate(() =>
      Object.fromEntries(
        ['View', 'Readings'].map((name) => {
          const panel = [...document.querySelectorAll('summary')].find((summary) => summary.textContent === name);
          const { left, top } = panel.getBoundingClientRect();
          return [name, [left, top + scrollY]];
        }),
      ),
    );
  const before = await tops();
  assert.notEqual(before.View[0], before.Readings[0], 'two columns');
  for (const name of ['Tracking', 'Save']) {
    await page.click(`summary:has-text("${name}")`);
    assert.deepEqual(await tops(), before, name);
  }
});

test('at 360 px it says what it is, and Help explains the readings before the keys', async (t) => {
  const { page } = await open(t, { viewport: SIZES.phone });
  assert.ok(
    await page.evaluate(() => {
      const { left, right, height } = document.querySelector('header p').getBoundingClientRect();
      return (
        document.querySelector('header p').checkVisibility({ visibilityProperty: true }) &&
        left >= 0 &&
        right <= innerWidth &&
        height > 0
      );
    }),
  );
  await page.click('#help');
  const terms = await page.evaluate(() =>
    [...document.querySelectorAll('.terms dt')].map((term) => term.textContent.replaceAll('\u00a0', ' ')),
  );
  const readings = await page.evaluate(() =>
    [...document.querySelectorAll('#latency dt, thead th')].map((term) => term.textContent.replaceAll('\u00a0', ' ')),
  );
  for (const reading of readings.filter((name) => name !== 'Face'))
    assert.ok(
      terms.some((term) => term.includes(reading) || reading.startsWith(term)),
      `${reading} is explained nowhere`,
    );
  assert.equal(await page.isVisible('.keys'), false, 'keys come when they are asked for');
  await page.click('.shortcuts summary');
  assert.ok(await page.isVisible('.keys'));
});

test('fits screens from 320 px up, with every panel open', async (t) => {
  const { page } = await open(t);
  await unfold(page);
  for (const width of [320, 360, 600, 768, 1024, 1280, 1920]) {
    await page.setViewportSize({ width, height: 740 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
  }
});

for (const [how, viewport] of [
  ['upright', SIZES.phone],
  ['on its side', { width: 740, height: 360 }],
]) {
  test(`on a phone ${how} the buttons are in sight and large enough for a thumb`, async (t) => {
    const { page } = await open(t, { viewport });
    for (const id of ['start', 'play', 'open', 'theme', 'help']) {
      const box = await page.locator(`#${id}`).boundingBox();
      assert.ok(box.height >= 44 && box.width >= 44, `${id} is ${box.width} x ${box.height}`);
      assert.ok(box.y + box.height <= viewport.height, `${id} ends at ${box.y + box.height}`);
    }
  });
}

/** Collects what moves in a page, also what moved before. Shifts just after a press count too, though browsers forgive them. */
const watchShifts = (page) =>
  page.evaluate(() => {
    globalThis.shifts = [];
    new PerformanceObserver((list) => {
      for (const { value, sources } of list.getEntries()) {
        globalThis.shifts.push(
          `${value.toFixed(4)} ${sources.map(({ node }) => node?.id || node?.className || node?.nodeName)}`,
        );
      }
    }).observe({ type: 'layout-shift', buffered: true });
  });
const shifts = (page) => page.evaluate(() => globalThis.shifts);

test('nothing moves when the page loads, starts and stops', async (t) => {
  for (const viewport of [SIZES.phone, SIZES.desktop]) {
    const { page, context } = await open(t, { viewport });
    await watchShifts(page);
    await playSample(page);
    await page.waitForTimeout(1500);
    await page.click('#stop');
    await page.waitForTimeout(300);
    assert.deepEqual(await shifts(page), []);
    await context.close();
  }
});

test('nothing moves while the page arrives line by line', async (t) => {
  const server = createServer(async (request, response) => {
    const file = await fetch(new URL(request.url, shared.url));
    response.setHeader('Content-Type', file.headers.get('Content-Type'));
    const bytes = Buffer.from(await file.arrayBuffer());
    if (request.url !== '/') return response.end(bytes);
    const [head, body] = bytes.toString().split(/(?=<body>)/);
    response.write(head);
    for (const line of body.split(/(?<=\n)/)) {
      response.write(line);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    response.end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  for (const viewport of Object.values(SIZES)) {
    const { page, context } = await openPage(t, shared.browser, `http://127.0.0.1:${server.address().port}/`, {
      viewport,
    });
    await watchShifts(page);
    await page.waitForTimeout(300);
    assert.deepEqual(await shifts(page), [], `${viewport.width} pixels wide`);
    await context.close();
  }
});

test('reduced motion and forced colours are honoured', async (t) => {
  const { page } = await open(t);
  await page.emulateMedia({ reducedMotion: 'reduce', forcedColors: 'active' });
  await playSample(page);
  await page.click('#record');
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  const [on, off] = await page.evaluate(() =>
    ['points', 'labels'].map(
      (name) => getComputedStyle(document.querySelector(`[data-setting="${name}"] + span`)).backgroundColor,
    ),
  );
  assert.notEqual(on, off, 'what is chosen can be told without our colours');
});

test('search engines and browsers are told what the page is', async (t) => {
  const { page } = await open(t);
  const head = await page.evaluate(async () => {
    const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? '';
    const manifest = await (await fetch(document.querySelector('link[rel="manifest"]').href)).json();
    const icons = await Promise.all(
      manifest.icons.map(async ({ src, sizes }) => {
        const image = new Image();
        image.src = src;
        await image.decode();
        return sizes === 'any' || sizes === `${image.naturalWidth}x${image.naturalHeight}`;
      }),
    );
    const { lang } = document.documentElement;
    const { doctype, characterSet, title } = document;
    const order = [...document.querySelectorAll('h1, h2, h3')]
      .filter((h) => h.checkVisibility())
      .map((h) => h.nodeName);
    return {
      lang,
      title,
      doctype: doctype.name,
      characterSet,
      description: meta('description'),
      viewport: meta('viewport'),
      manifest,
      icons,
      order,
    };
  });
  assert.equal(head.lang, 'en');
  assert.equal(head.doctype, 'html');
  assert.equal(head.characterSet, 'UTF-8');
  assert.ok(head.title.length > 10 && head.title.length < 60);
  assert.ok(head.description.length > 50 && head.description.length < 160);
  assert.match(head.viewport, /width=device-width/);
  assert.doesNotMatch(head.viewport, /user-scalable|maximum-scale/, 'a visitor may zoom');
  assert.ok(head.icons.every(Boolean), 'each icon has the size that it says');
  const { icons, start_url, display } = head.manifest;
  assert.ok(['192x192', '512x512', 'any'].every((s) => icons.some(({ sizes }) => sizes === s)));
  assert.ok(icons.some(({ purpose }) => purpose === 'maskable'));
  assert.deepEqual([start_url, display], ['./', 'standalone']);
  assert.equal(head.order[0], 'H1');
  assert.equal(head.order.filter((h) => h === 'H1').length, 1);
});

test('Chromium itself finds the page fit to be installed', async (t) => {
  const { page, context } = await open(t);
  await page.waitForFunction(() => document.querySelector('#offline').textContent !== '');
  const session = await context.newCDPSession(page);
  const { errors } = await session.send('Page.getAppManifest');
  const { installabilityErrors } = await session.send('Page.getInstallabilityErrors');
  assert.deepEqual(errors, []);
  // A test's window is a private one, which cannot keep an installed page.
  assert.deepEqual(
    installabilityErrors.map(({ errorId }) => errorId),
    ['in-incognito'],
  );
});

test('the whole page, net and all, is small', (t) => {
  let sum = 0;
  for (const [address, path] of pageFiles(root)) {
    // A browser takes one of the two.
    if (address === WASM[0]) continue;
    const bytes = brotliCompressSync(readFileSync(path)).length;
    sum += bytes;
    if (bytes > 20_000) t.diagnostic(`${address}: ${Math.round(bytes / 1000)} kB, brotli`);
  }
  t.diagnostic(`all of it: ${Math.round(sum / 1000)} kB, brotli (at most ${MAX_BYTES / 1000})`);
  assert.ok(sum <= MAX_BYTES, `${sum} bytes`);
});

test('works offline after the first visit, in a folder of a site too', async (t) => {
  const counted = await countRequests(t, shared.url, '/demos/face/');
  const { page, faults } = await openPage(t, shared.browser, counted.url);
  await page.waitForFunction(() => document.querySelector('#offline').textContent.includes('offline'));
  assert.match(await page.textContent('#offline'), /also works offline/);
  assert.deepEqual(
    counted.requests.filter((path) => !path.startsWith('/demos/face/')),
    [],
  );
  counted.close();
  await page.reload();
  await playSample(page);
  await page.click('#stop');
  await page.click('#start');
  await running(page);
  assert.deepEqual(faults, []);
});

/** The page's files in a folder of their own, to be changed. */
function copyOfPage(t) {
  const folder = temporaryFolder(t);
  for (const path of [...pageFiles(root).values(), join(root, 'www/sw.js')]) {
    const copy = join(folder, path.slice(root.length));
    mkdirSync(dirname(copy), { recursive: true });
    cpSync(path, copy);
  }
  writeOfflineFiles(folder);
  return folder;
}

test('a new version is offered, comes whole, and the old one is forgotten', async (t) => {
  const folder = copyOfPage(t);
  const { page, faults } = await openPage(t, shared.browser, await serve(t, folder));
  await page.waitForFunction(() => document.querySelector('#offline').textContent.includes('offline'));
  const index = join(folder, 'www/index.html');
  writeFileSync(index, readFileSync(index, 'utf8').replace('<title>face96', '<title>newer face96'));
  writeOfflineFiles(folder);
  await page.reload();
  assert.match(await page.title(), /^face96/, 'this visit still has one version, the old one');
  await page.waitForSelector('#update:visible', { timeout: 20_000 });
  await Promise.all([page.waitForEvent('load'), page.click('#update')]);
  assert.match(await page.title(), /^newer face96/);
  const kept = await page.evaluate(async () => {
    const all = (await (await caches.open('face96')).keys()).map(({ url }) => new URL(url).pathname);
    return [all.length, new Set(all).size];
  });
  // Of the two builds of the wasm a browser keeps one.
  const files = pageFiles(root).size - 1;
  assert.deepEqual(kept, [files, files], 'one of each file');
  assert.deepEqual(faults, []);
});

test('a copy that was uploaded by halves is not kept for offline use, and still works', async (t) => {
  const { page, context } = await openPage(t, shared.browser, 'about:blank');
  const folder = copyOfPage(t);
  writeFileSync(join(folder, 'www/style.css'), '/* another */', { flag: 'a' });
  await page.goto(await serve(t, folder));
  await page.waitForFunction(() => document.querySelector('#offline').textContent !== '');
  assert.match(await page.textContent('#offline'), /could not be kept/);
  await playSample(page);
  await context.close();
});
