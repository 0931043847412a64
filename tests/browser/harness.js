// Shared by the browser tests: the program as the server, the browser, and the available data.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { after, before, test as nodeTest } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { launchFirefox } from './firefox.js';
import { launchWebKit } from './webkit.js';

export const root = fileURLToPath(new URL('../../', import.meta.url));
export const program = process.env.FACE96 ?? join(root, 'target/release/face96');
export const weightsPath = join(root, 'pkg/weights/compact.safetensors');
export const finderPath = join(root, 'pkg/weights/finder.safetensors');

/** The browser that the tests run in: ENGINE=firefox, ENGINE=webkit, or Chromium. */
const engine = process.env.ENGINE ?? 'chromium';
export const executables = {
  chromium: process.env.CHROMIUM ?? '/usr/bin/chromium',
  firefox: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
  webkit: process.env.WEBKIT ?? '/usr/bin/WebKitWebDriver',
};
const executable = executables[engine];

/** What Firefox, or its driver, lacks, with the reason that a skipped test gives. */
const LACKS = {
  workers: 'puppeteer runs nothing in the workers of Firefox, and sees none of them end',
  camera: 'the camera that the tests draw has no lasting name, and stands still in a page behind another window',
  tracks: 'a script cannot send events to the tracks of Firefox',
  requests: 'requests are told of each page alone',
  settings: 'JavaScript cannot be switched off',
  media: 'themes and the like cannot be emulated',
  files: 'the file picker is not driven',
  chromium: 'it tests what only Chromium has',
};

/**
 * A test that may need something that only playwright's Chromium has: in other browsers it is then skipped, and counted. All tests are
 * skipped if the browser is missing.
 * @param {string} name
 * @param {{ needs?: keyof typeof LACKS } & import('node:test').TestOptions | import('node:test').TestFn} options
 * @param {import('node:test').TestFn} [body]
 */
export function test(name, options, body) {
  if (typeof options === 'function') [options, body] = [{}, options];
  const { needs, ...rest } = options;
  let { skip = false } = rest;
  if (engine !== 'chromium' && needs) skip = LACKS[needs];
  if (!existsSync(executable)) skip = `there is no ${executable}`;
  return nodeTest(engine === 'chromium' ? name : `${engine}: ${name}`, { ...rest, skip }, body);
}

/**
 * Starts `face96 serve` on a free port. The test context ends it.
 * @param {import('node:test').TestContext | { after: (f: () => void) => void }} t
 * @param {string} [folder] that holds www and pkg
 * @returns {Promise<string>} the page's address, with a slash at the end
 */
export async function serve(t, folder = root) {
  // `face96-serve` is the server alone.
  const command = program.endsWith('-serve') ? [] : ['serve'];
  const child = spawn(program, [...command, '--port', '0', '--root', folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  return new Promise((resolve, reject) => {
    let printed = '';
    child.stdout.on('data', (text) => {
      printed += text;
      const url = printed.match(/http:\/\/127\.0\.0\.1:\d+\//);
      if (url) resolve(url[0]);
    });
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`${program} serve ended with ${code} and printed: ${printed}`)));
  });
}

const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
  '.css': 'text/css',
  '.png': 'image/png',
  '.json': 'application/json',
};

/**
 * Serves a folder like any plain host.
 * @param {{ after: (f: () => void) => void }} t
 * @param {string} folder
 * @param {Record<string, string>} [headers] sent with every file
 * @returns {Promise<string>} its address, with a slash at the end
 */
export async function host(t, folder, headers = {}) {
  const server = createServer((request, response) => {
    const name = normalize(decodeURIComponent(new URL(request.url, 'http://x').pathname));
    const file = join(folder, name.endsWith('/') ? `${name}index.html` : name);
    try {
      const body = readFileSync(file);
      for (const [header, value] of Object.entries(headers)) response.setHeader(header, value);
      response.setHeader('Content-Type', TYPES[extname(file)] ?? 'application/octet-stream');
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}/`;
}

/**
 * @param {{ after: (f: () => unknown) => void }} t ends the browser
 * @param {{ clip?: string, engine?: keyof typeof executables }} [options] clip: an MJPEG file that plays as the camera, in Firefox a drawn
 *   face; default is the browser's own test picture
 */
export async function launch(t, { clip, engine: own = engine } = {}) {
  if (own !== 'chromium') {
    const other = await (own === 'firefox' ? launchFirefox : launchWebKit)(executables[own], {
      face: clip !== undefined,
    });
    t.after(() => other.close());
    return other;
  }
  const browser = await chromium.launch({
    executablePath: executables.chromium,
    args: [
      ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
      ...['--disable-component-update', '--disable-sync'],
      ...['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream'],
      ...(clip ? [`--use-file-for-fake-video-capture=${clip}`] : []),
    ],
  });
  t.after(() => browser.close());
  return browser;
}

/**
 * A server and a browser for all tests of a file, which end with it.
 * @param {object} [options]
 * @param {(studio: import('playwright-core').Page, path: string) => Promise<unknown>} [options.clip] writes the clip that plays as the
 *   camera, in a page of another browser
 * @param {(t: { after: (f: () => unknown) => void }) => Promise<void>} [options.ready] runs before the first test, with server and browser started
 * @returns {{ url: string, browser: import('playwright-core').Browser }} filled in before the first test
 */
export function suite({ clip, ready } = {}) {
  const shared = /** @type {any} */ ({});
  /** @type {(() => unknown)[]} */
  const endings = [];
  const t = { after: (f) => endings.push(f) };
  before(async () => {
    if (!existsSync(executable)) return;
    shared.url = await serve(t);
    const path = clip && join(temporaryFolder(t), 'camera.mjpeg');
    if (clip && engine === 'chromium') await makeClip(t, shared.url, path, clip);
    shared.browser = await launch(t, { clip: path });
    await ready?.(t);
  });
  after(async () => {
    for (const end of endings.reverse()) await end();
  });
  return shared;
}

/**
 * Makes a clip in a browser of its own.
 * @param {{ after: (f: () => unknown) => void }} t
 * @param {string} url the server's
 * @param {string} path of the clip
 * @param {(studio: import('playwright-core').Page, path: string) => Promise<T>} write
 * @returns {Promise<T>}
 * @template T
 */
export async function makeClip(t, url, path, write) {
  const studio = await launch(t);
  const page = await studio.newPage();
  await page.goto(`${url}pkg/package.json`);
  const made = await write(page, path);
  await studio.close();
  return made;
}

/** A folder that is deleted at the end of the test. */
export function temporaryFolder(t) {
  const path = mkdtempSync(join(tmpdir(), 'face96-test-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/**
 * Rows of a comma-separated file without quotes, as objects by column name.
 * @param {string} path
 * @returns {Record<string, string>[]}
 */
export function readCsv(path) {
  const [header, ...rows] = readFileSync(path, 'utf8')
    .trimEnd()
    .split(/\r?\n/)
    .map((line) => line.split(','));
  return rows.map((row) => Object.fromEntries(row.map((value, i) => [header[i], value])));
}

/** A valid safetensors file that is not ours: one tensor of two numbers, no metadata. */
export function foreignWeights() {
  const header = Buffer.from(JSON.stringify({ 'encoder.weight': { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.alloc(8)]);
}

/**
 * The shipped weights cut down to their first keypoints: a valid file of another schema.
 * @param {number} count
 * @param {string[]} [renamed] other names for them
 * @returns {Buffer}
 */
export function fewerKeypoints(count, renamed) {
  const bytes = readFileSync(weightsPath);
  const length = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  const meta = header.__metadata__;
  const { keypoints } = JSON.parse(meta.schema);
  const names = renamed ?? keypoints.slice(0, count);
  const swap = names.map((name, i) => {
    const other = names.indexOf(name.replace(/left|right/, (side) => (side === 'left' ? 'right' : 'left')));
    return other < 0 ? i : other;
  });
  meta.schema = JSON.stringify({ keypoints: names, swap, edges: [] });
  if (meta.mean_shape) meta.mean_shape = JSON.stringify(JSON.parse(meta.mean_shape).slice(0, count));
  const data = [];
  let at = 0;
  for (const [name, tensor] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    let part = bytes.subarray(...tensor.data_offsets.map((offset) => 8 + length + offset));
    // A tensor that has one row per keypoint, and perhaps one before them.
    const rows = tensor.shape[0];
    const kept =
      /^(heatmaps|presence)\./.test(name) && rows >= keypoints.length ? rows - keypoints.length + count : rows;
    part = part.subarray(0, (part.length / rows) * kept);
    tensor.shape[0] = kept;
    tensor.data_offsets = [at, at + part.length];
    at += part.length;
    data.push(part);
  }
  let text = JSON.stringify(header);
  text += ' '.repeat((8 - (text.length % 8)) % 8);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([start, Buffer.from(text), ...data]);
}
