// What the tests of the page share: opening it, waiting for what a visitor would see, and auditing that.
import { readFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { createRequire } from 'node:module';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/**
 * Opens the page in a context of its own, so that no cache hides a routed fault.
 * @param {import('node:test').TestContext} t closes it
 * @param {import('playwright-core').Browser} browser
 * @param {string} url
 * @param {import('playwright-core').BrowserContextOptions} [options]
 */
export async function open(t, browser, url, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    acceptDownloads: true,
    ...options,
  });
  t.after(() => context.close());
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  await page.goto(url);
  return { context, page, faults };
}

/** Until the status line holds this text. */
export const status = (page, text) =>
  page.waitForFunction((text) => document.querySelector('#status').textContent.includes(text), text, {
    timeout: 20_000,
  });

/** Until frames are computed. */
export const running = (page) =>
  page.waitForFunction(() => Number(document.querySelector('#fps').textContent) > 0, null, { timeout: 20_000 });

/** Chooses one of the page's nets, and waits until it is loaded. @param {import('playwright-core').Page} page @param {string} net */
export async function chooseNet(page, net) {
  await page.evaluate((net) => {
    const picker = document.querySelector('#net-choice');
    picker.value = net;
    picker.dispatchEvent(new Event('change'));
  }, net);
  await page.waitForFunction(() => document.querySelector('#status').textContent.includes('is loaded'));
}

/** Plays the sample until its face was found. */
export async function playSample(page) {
  await page.click('#play');
  await page.waitForSelector('.stage.found', { timeout: 20_000 });
  await running(page);
}

/** Presses a button that saves something; returns the file's name and bytes. */
export async function saved(page, selector) {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click(selector)]);
  const chunks = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk);
  return { name: download.suggestedFilename(), bytes: Buffer.concat(chunks) };
}

/**
 * A server in front of another one that keeps a list of what it was asked for: it sees the requests of the page, of its
 * workers and of the service worker alike.
 * @param {{ after: (f: () => void) => void }} t
 * @param {string} url
 * @param {string} [folder] the path under which it offers the other one's, with slashes around it
 * @param {Record<string, string>} [extra] headers that it adds to the other one's
 */
export async function countRequests(t, url, folder = '/', extra = {}) {
  const { hostname, port } = new URL(url);
  const requests = [];
  const server = createServer((incoming, outgoing) => {
    requests.push(incoming.url);
    const { method, headers } = incoming;
    // What lies outside of the folder is another site's.
    const path = incoming.url.startsWith(folder) ? `/${incoming.url.slice(folder.length)}` : '/none';
    request({ hostname, port, method, path, headers, agent: false }, (answer) => {
      outgoing.writeHead(answer.statusCode, { ...answer.headers, ...extra });
      answer.pipe(outgoing);
    }).end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  t.after(close);
  return { url: `http://127.0.0.1:${server.address().port}${folder}`, requests, close };
}

/**
 * What axe finds, by the rules of WCAG 2.2 A and AA and its own.
 * @param {import('playwright-core').Page} page
 * @param {string} [selector] of the part that is looked at, shadow roots included; default is the whole document
 * @returns {Promise<string[]>}
 */
export async function audit(page, selector) {
  // A transition half-way has other colours.
  await page.evaluate(() =>
    Promise.all(
      document
        .getAnimations()
        .filter((a) => a instanceof CSSTransition)
        .map((a) => a.finished.catch(() => {})),
    ),
  );
  await page.evaluate(axe);
  return page.evaluate(async (selector) => {
    const run = { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] };
    const { violations } = await globalThis.axe.run(selector ?? document, run);
    return violations.map(
      ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((n) => n.target.join(' ')).join(', ')}`,
    );
  }, selector);
}

/**
 * Reading a frame takes the detector's worker 120 ms from here on: a camera gives two to three in that time.
 * @returns {Promise<() => Promise<number>>} how many reads were slow so far
 */
export async function slowReads(page) {
  const worker = page.workers().find((worker) => worker.url().endsWith('/pkg/worker.js'));
  await worker.evaluate(() => {
    globalThis.slowed = 0;
    for (const [{ prototype }, name] of [
      [VideoFrame, 'copyTo'],
      [OffscreenCanvasRenderingContext2D, 'getImageData'],
    ]) {
      const read = prototype[name];
      prototype[name] = function (...args) {
        globalThis.slowed++;
        for (const end = performance.now() + 120; performance.now() < end; );
        return read.apply(this, args);
      };
    }
  });
  return () => worker.evaluate(() => globalThis.slowed);
}
