// Firefox for the browser tests, by WebDriver BiDi: puppeteer, under the names of playwright that the tests use. playwright itself drives
// a Firefox of its own build only.
import puppeteer from 'puppeteer-core';

/** As short as a person's glance: what is waited for is looked for this often. */
const POLL = 50;
/** It starts and draws more slowly than Chromium without a GPU, for which the tests' patience is meant. */
const SLOWER = 3;

/** A pattern of playwright's, in which ** is anything. @param {string | RegExp} pattern */
const matcher = (pattern) =>
  pattern instanceof RegExp
    ? pattern
    : new RegExp(
        `^${pattern
          .split('**')
          .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^/]*'))
          .join('.*')}$`,
      );

/** In the page: the element of a selector, which may end in :has-text("...") or :visible. @param {string} selector */
function find(selector) {
  const [, plain, text] = selector.match(/^(.*):has-text\("(.*)"\)$/) ?? [null, selector];
  const visible = plain.endsWith(':visible');
  const all = [...document.querySelectorAll(plain.replace(/:visible$/, ''))];
  const shown = (element) => element.getClientRects().length > 0 && getComputedStyle(element).visibility === 'visible';
  return (
    all.find((element) => (text === undefined || element.textContent.includes(text)) && (!visible || shown(element))) ??
    null
  );
}

/** What a page and a frame have in common. */
class Frame {
  /** @param {import('puppeteer-core').Frame | import('puppeteer-core').Page} inner */
  constructor(inner) {
    this.inner = inner;
  }

  url = () => this.inner.url();
  evaluate = (f, arg) => this.inner.evaluate(f, arg);
  evaluateHandle = (f, arg) => this.inner.evaluateHandle(f, arg);
  waitForTimeout = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  /**
   * The handle of what a function gives in the page, once that is something. Asked for from here: what puppeteer leaves in a page to look
   * again falls silent in a Firefox that is busy starting workers.
   */
  async #until(f, args, timeout) {
    for (const end = performance.now() + SLOWER * timeout; performance.now() < end; ) {
      const handle = await this.inner.evaluateHandle(f, ...args);
      if (await handle.evaluate((value) => Boolean(value))) return handle;
      await handle.dispose();
      await this.waitForTimeout(POLL);
    }
    throw new Error(`waited ${SLOWER * timeout} ms for ${args[0] ?? f}`);
  }

  waitForFunction = (f, arg, { timeout = 30_000 } = {}) => this.#until(f, [arg], timeout);

  /** The element of a selector, once it is there and as it is wanted. */
  waitForSelector(selector, { state = 'visible', timeout = 30_000 } = {}) {
    const there = (selector, state, find) => {
      const element = new Function(`return ${find}`)()(selector);
      const shown =
        element && element.getClientRects().length > 0 && getComputedStyle(element).visibility === 'visible';
      return state === 'hidden' ? !shown && true : (state === 'attached' || shown) && element;
    };
    return this.#until(there, [selector, state, find.toString()], timeout);
  }

  async #one(selector, f, arg) {
    const handle = await this.waitForSelector(selector, { state: 'attached' });
    return handle.evaluate(f, arg);
  }

  async isVisible(selector) {
    const handle = await this.inner.evaluateHandle(find, selector);
    return handle.evaluate(
      (element) =>
        Boolean(element) && element.getClientRects().length > 0 && getComputedStyle(element).visibility === 'visible',
    );
  }

  textContent = (selector) => this.#one(selector, (element) => element.textContent);
  innerText = (selector) => this.#one(selector, (element) => element.innerText);
  getAttribute = (selector, name) => this.#one(selector, (element, name) => element.getAttribute(name), name);
  inputValue = (selector) => this.#one(selector, (element) => element.value);
  isChecked = (selector) => this.#one(selector, (element) => element.checked);
  isDisabled = (selector) => this.#one(selector, (element) => element.disabled);

  async click(selector) {
    const handle = await this.waitForSelector(selector);
    // Where it will still be when it is pressed: a page that is just being put together moves.
    await handle.evaluate(async (element) => {
      element.scrollIntoView({ block: 'nearest' });
      const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
      for (let before = '', tries = 0; tries < 100; tries++) {
        const { x, y, width, height } = element.getBoundingClientRect();
        const place = [x, y, width, height].join();
        const there = document.elementFromPoint(x + width / 2, y + height / 2);
        if (place === before && (element.contains(there) || there?.contains(element))) return;
        before = place;
        await frame();
        await frame();
      }
    });
    await handle.click();
  }

  async fill(selector, value) {
    const handle = await this.waitForSelector(selector);
    await handle.evaluate((element, value) => {
      element.focus();
      element.value = value;
      for (const type of ['input', 'change']) element.dispatchEvent(new Event(type, { bubbles: true }));
    }, value);
  }

  /** Without the picker: as a script of the page would fill it. */
  async setInputFiles(selector, { name, mimeType, buffer }) {
    await this.#one(
      selector,
      (input, [name, type, base64]) => {
        const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
        const files = new DataTransfer();
        files.items.add(new File([bytes], name, { type }));
        input.files = files.files;
        for (const type of ['input', 'change']) input.dispatchEvent(new Event(type, { bubbles: true }));
      },
      [name, mimeType, Buffer.from(buffer).toString('base64')],
    );
  }

  selectOption = async (selector, value) => (await this.waitForSelector(selector)).select(value);

  locator = (selector) => ({
    allTextContents: () => this.inner.$$eval(selector, (all) => all.map((element) => element.textContent)),
    count: () => this.inner.$$eval(selector, (all) => all.length),
    boundingBox: async () => (await this.inner.$(selector)).boundingBox(),
  });
}

class Page extends Frame {
  /** @type {[RegExp, (route: object) => unknown][]} */ #routes = [];
  #context;

  constructor(inner, context) {
    super(inner);
    this.#context = context;
    this.keyboard = inner.keyboard;
  }

  context = () => this.#context;
  goto = (url, options) => this.inner.goto(url, { waitUntil: 'load', ...options });
  reload = () => this.inner.reload();
  close = () => this.inner.close();
  setContent = (html) => this.inner.setContent(html);
  setViewportSize = (size) => this.inner.setViewport(size);
  bringToFront = () => this.inner.bringToFront();
  frames = () => this.inner.frames().map((frame) => new Frame(frame));
  workers = () => this.inner.workers();
  addInitScript = (script, arg) =>
    this.inner.evaluateOnNewDocument(typeof script === 'string' ? script : `(${script})(${JSON.stringify(arg)})`);

  on(type, listener) {
    this.inner.on(type, listener);
  }

  async route(pattern, answer) {
    if (!this.#routes.length) {
      await this.inner.setRequestInterception(true);
      this.inner.on('request', async (request) => {
        const own = this.#routes.find(([pattern]) => pattern.test(request.url()));
        const pass = () => request.continue().catch(() => {});
        if (!own) return pass();
        await own[1]({
          request: () => request,
          continue: pass,
          fallback: pass,
          abort: () => request.abort().catch(() => {}),
          fulfill: ({ status = 200, body = '', contentType, headers = {} } = {}) =>
            request
              .respond({ status, body: Buffer.from(body), headers, ...(contentType ? { contentType } : {}) })
              .catch(() => {}),
        });
      });
    }
    this.#routes.unshift([matcher(pattern), answer]);
  }

  /** Of downloads alone. */
  async waitForEvent(type) {
    if (type !== 'download') throw new Error(`nothing waits for '${type}' here`);
    await this.waitForFunction(() => downloads.length > 0);
    const [name, base64] = await this.evaluate(async () => {
      const { name, blob } = downloads.shift();
      const bytes = new Uint8Array(await blob.arrayBuffer());
      return [name, btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))];
    });
    return { suggestedFilename: () => name, createReadStream: async () => [Buffer.from(base64, 'base64')] };
  }

  async unroute(pattern) {
    const source = matcher(pattern).source;
    this.#routes = this.#routes.filter(([own]) => own.source !== source);
  }
}

export class Context {
  /** @type {Page[]} */ #pages = [];
  /** @type {[string, (route: object) => unknown][]} */ #routes = [];
  #options;

  constructor(inner, options) {
    this.inner = inner;
    this.#options = options;
  }

  async newPage() {
    const page = new Page(await this.inner.newPage(), this);
    const { viewport = { width: 1280, height: 720 } } = this.#options;
    await page.setViewportSize(viewport);
    for (const script of this.#options.scripts ?? []) await page.addInitScript(script);
    if (this.#options.serviceWorkers === 'block') await page.addInitScript('delete Navigator.prototype.serviceWorker');
    for (const [pattern, answer] of this.#routes) await page.route(pattern, answer);
    this.#pages.push(page);
    return page;
  }

  async route(pattern, answer) {
    this.#routes.push([pattern, answer]);
    for (const page of this.#pages) await page.route(pattern, answer);
  }

  async unroute(pattern) {
    this.#routes = this.#routes.filter(([own]) => own !== pattern);
    for (const page of this.#pages) await page.unroute(pattern);
  }

  close = () => this.inner.close();
}

/** In a page: what is saved stays in it, since puppeteer hands out no downloads of Firefox. */
function keepDownloads() {
  const blobs = new Map();
  const { createObjectURL } = URL;
  URL.createObjectURL = (blob) => {
    const url = createObjectURL(blob);
    blobs.set(url, blob);
    return url;
  };
  globalThis.downloads = [];
  const { click } = HTMLAnchorElement.prototype;
  HTMLAnchorElement.prototype.click = function () {
    if (this.download && blobs.has(this.href)) downloads.push({ name: this.download, blob: blobs.get(this.href) });
    else click.call(this);
  };
}

/** In a page: the sample's face is the camera, since Firefox plays no file as one. */
function drawnCamera() {
  if (!navigator.mediaDevices) return;
  navigator.mediaDevices.getUserMedia = async () => {
    const { createSyntheticFace } = await import(`${location.origin}/pkg/synthetic.js`);
    const [width, height] = [640, 480];
    const face = await createSyntheticFace({ seed: 4, width, height });
    const [canvas, drawn] = [0, 1].map(() => Object.assign(document.createElement('canvas'), { width, height }));
    const [context, own] = [canvas, drawn].map((canvas) => canvas.getContext('2d'));
    const stream = canvas.captureStream();
    const [track] = stream.getVideoTracks();
    // A canvas has no other sizes to choose from: this camera has any.
    track.applyConstraints = async (size) => void Object.assign(canvas, size);
    const draw = () => {
      if (track.readyState === 'ended') return face.close();
      own.putImageData(face.draw(performance.now() / 1000), 0, 0);
      context.drawImage(drawn, 0, 0, canvas.width, canvas.height);
      setTimeout(draw, 33);
    };
    draw();
    return stream;
  };
}

/**
 * Starts Firefox, with its own test picture for a camera or with a drawn face.
 * @param {string} executablePath
 * @param {{ face?: boolean }} [options]
 */
export async function launchFirefox(executablePath, { face = false } = {}) {
  const inner = await puppeteer.launch({
    browser: 'firefox',
    executablePath,
    headless: true,
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
      // Nothing asks other sites for anything.
      'network.captive-portal-service.enabled': false,
      'network.connectivity-service.enabled': false,
    },
  });
  const contexts = [];
  const newContext = async (options = {}) => {
    const scripts = face ? [keepDownloads, drawnCamera] : [keepDownloads];
    const context = new Context(await inner.createBrowserContext(), { ...options, scripts });
    contexts.push(context);
    return context;
  };
  const version = await inner.version();
  return {
    newContext,
    // As in playwright: a context of its own.
    newPage: async (options) => {
      const context = await newContext(options);
      const page = await context.newPage();
      const close = page.close;
      page.close = async () => (await close(), await context.close());
      return page;
    },
    version: () => version,
    close: () => inner.close(),
  };
}
