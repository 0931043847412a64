// WebKitGTK for the browser tests, by its WebDriver (Debian's webkit2gtk-driver), on a screen that nobody sees (xvfb). Classic WebDriver
// tells nothing of what a page logs or asks for and runs no script before the page's own; and this build has no service workers and asks
// for no camera. So only the tests that need none of that run in it.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { Builder } from 'selenium-webdriver';
import { Context } from './firefox.js';

/** The smallest of WebKit's browsers, which comes with the library. */
const BROWSER = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu']
  .filter((folder) => existsSync(folder))
  .flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.startsWith('webkit2gtk-'))
      .map((name) => `${folder}/${name}/MiniBrowser`),
  )
  .find((path) => existsSync(path));

/** What {@link Context} needs of a page, as puppeteer has it. */
class Page {
  keyboard = null;

  constructor(driver) {
    this.driver = driver;
  }

  goto = (url) => this.driver.get(url);
  reload = () => this.driver.navigate().refresh();
  url = () => this.driver.getCurrentUrl();
  setViewport = ({ width, height }) => this.driver.manage().window().setRect({ width, height });
  close = async () => {};

  async evaluate(f, ...args) {
    const script = `
      const [done, ...args] = [arguments[arguments.length - 1], ...Array.from(arguments).slice(0, -1)];
      (async () => (${f})(...args))().then((value) => done({ value }), (error) => done({ fault: String(error?.stack ?? error) }));`;
    const { value, fault } = await this.driver.executeAsyncScript(script, ...args);
    if (fault) throw new Error(fault);
    return value;
  }

  async waitForFunction(f, { polling, timeout }, ...args) {
    for (const end = Date.now() + timeout; ; await new Promise((resolve) => setTimeout(resolve, polling))) {
      const value = await this.evaluate(f, ...args);
      if (value)
        return {
          evaluate: (f, arg) => this.evaluate(f, value, arg),
          click: () => value.click(),
          select: (option) => value.sendKeys(option),
        };
      if (Date.now() > end) throw new Error(`waited ${timeout} ms in vain for ${f}`);
    }
  }
}

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A port that is free. @returns {Promise<number>} */
const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

/** @param {string} driverPath of WebKitWebDriver */
export async function launchWebKit(driverPath) {
  const port = await freePort();
  const display = `:${100 + (port % 400)}`;
  const screen = spawn('Xvfb', [display, '-screen', '0', '1400x1000x24', '-nolisten', 'tcp'], { stdio: 'ignore' });
  // Its sandbox needs name spaces, which a container does not give.
  const env = {
    ...process.env,
    DISPLAY: display,
    WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1',
    LIBGL_ALWAYS_SOFTWARE: '1',
  };
  const server = spawn(driverPath, [`--port=${port}`], { stdio: 'ignore', env });
  const options = { binary: BROWSER, args: ['--automation'] };
  let driver;
  for (const end = Date.now() + 20_000; !driver; ) {
    try {
      driver = await new Builder()
        .usingServer(`http://127.0.0.1:${port}`)
        .withCapabilities({ browserName: 'MiniBrowser', 'webkitgtk:browserOptions': options })
        .build();
    } catch (error) {
      if (Date.now() > end) throw error;
      await pause(200);
    }
  }
  await driver.manage().setTimeouts({ script: 600_000 });
  const version = (await driver.getCapabilities()).get('browserVersion');
  // A session has one window: pages follow one another in it.
  const context = () => new Context({ newPage: async () => new Page(driver), close: async () => {} }, {});
  return {
    newContext: async () => context(),
    newPage: () => context().newPage(),
    version: () => version,
    async close() {
      await driver.quit();
      server.kill();
      screen.kill();
    },
  };
}
