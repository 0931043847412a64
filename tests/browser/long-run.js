// A long run in Chromium: does memory stay flat, does a frame keep its time?
//   node tests/browser/long-run.js --frames 20000 [--faces 1]
// prints a line every tenth of the run and ends with an error if something grew.
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { launch, serve } from './harness.js';

/**
 * @typedef {object} Reading
 * @property {number} frames done
 * @property {number} heap bytes of JavaScript in the page, after a collection
 * @property {number} workerHeap bytes of JavaScript in the worker, after a collection
 * @property {number} wasm bytes of wasm memory in the worker
 * @property {number} median milliseconds a frame, from the call to its result, since the reading before
 * @property {number} p95
 * @property {number} around median milliseconds of all that is not a net: taking, cropping, smoothing, messages
 * @property {number} found share of the frames with a face
 */

/**
 * Plays a drawn face, as VideoFrames that the page makes and closes, into a detector.
 * @param {{ after: (f: () => unknown) => void }} t ends browser and server
 * @param {{ frames: number, faces?: number, readings?: number, onReading?: (reading: Reading) => void }} options
 * @returns {Promise<{ readings: Reading[], warnings: string[] }>} warnings: what the console said, such as a frame that was
 *   collected without being closed
 */
export async function longRun(t, { frames, faces = 1, readings = 10, onReading = () => {} }) {
  const url = await serve(t);
  const browser = await launch(t);
  const page = await browser.newPage();
  /** @type {string[]} */
  const warnings = [];
  page.on('console', (message) => {
    if (!message.location().url.endsWith('/favicon.ico')) warnings.push(message.text());
  });
  page.on('pageerror', (error) => warnings.push(error.message));
  await page.goto(`${url}pkg/package.json`);
  await page.evaluate(async (maxFaces) => {
    const { createDetector } = await import('/pkg/index.js');
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const face = await createSyntheticFace({ seed: 3, width: 640, height: 480 });
    // Two seconds of film, there and back again, so that drawing takes no part; in the format of a camera, without colours.
    const [width, height] = [640, 480];
    const pictures = Array.from({ length: 60 }, (_, i) => {
      const { data } = face.draw(i / 30);
      const planes = new Uint8Array((width * height * 3) / 2).fill(128);
      for (let p = 0; p < width * height; p++) {
        planes[p] = 16 + (219 / 255) * (0.299 * data[4 * p] + 0.587 * data[4 * p + 1] + 0.114 * data[4 * p + 2]);
      }
      return planes;
    });
    face.close();
    const detector = await createDetector({ maxFaces });
    let done = 0;
    globalThis.play = async (count) => {
      const times = [];
      const around = [];
      let found = 0;
      for (const end = done + count; done < end; done++) {
        const phase = done % 120;
        const picture = pictures[phase < 60 ? phase : 119 - phase];
        const timestamp = Math.round((done * 1e6) / 30);
        const frame = new VideoFrame(picture, { format: 'I420', codedWidth: width, codedHeight: height, timestamp });
        const { faces, timings } = await detector.detect(frame);
        frame.close();
        times.push(timings.total);
        around.push(timings.total - timings.net - timings.find);
        found += Number(faces.length > 0);
      }
      const at = (values, share) => values.sort((a, b) => a - b)[Math.floor(share * (values.length - 1))];
      return {
        frames: done,
        median: at(times, 0.5),
        p95: at(times, 0.95),
        around: at(around, 0.5),
        found: found / count,
      };
    };
  }, faces);
  const [worker] = page.workers();
  const session = await page.context().newCDPSession(page);
  const ask = await workerSession(browser);
  const read = async () => {
    await session.send('HeapProfiler.collectGarbage');
    await ask('HeapProfiler.collectGarbage');
    const { usedSize: heap } = await session.send('Runtime.getHeapUsage');
    const { usedSize: workerHeap } = await ask('Runtime.getHeapUsage');
    const wasm = await worker.evaluate(async () => {
      const { default: init } = await import('/pkg/dist/face96.js');
      return (await init()).memory.buffer.byteLength; // that of the engine: the glue keeps one
    });
    return { heap, workerHeap, wasm };
  };
  await page.evaluate(() => globalThis.play(60)); // what is made once is not growth
  const result = [];
  for (let i = 0; i < readings; i++) {
    const played = await page.evaluate((count) => globalThis.play(count), Math.ceil(frames / readings));
    const reading = { ...played, ...(await read()) };
    result.push(reading);
    onReading(reading);
  }
  return { readings: result, warnings };
}

/**
 * Chromium's debugger on the one worker there is; playwright has no session for those.
 * @param {import('playwright-core').Browser} browser
 * @returns {Promise<(method: string) => Promise<any>>}
 */
async function workerSession(browser) {
  const session = await browser.newBrowserCDPSession();
  const { targetInfos } = await session.send('Target.getTargets', { filter: [{ type: 'worker' }] });
  const { sessionId } = await session.send('Target.attachToTarget', {
    targetId: targetInfos[0].targetId,
    flatten: false,
  });
  let last = 0;
  const waiting = new Map();
  session.on('Target.receivedMessageFromTarget', ({ message }) => {
    const { id, result } = JSON.parse(message);
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  return (method) =>
    new Promise((resolve) => {
      waiting.set(++last, resolve);
      session.send('Target.sendMessageToTarget', { sessionId, message: JSON.stringify({ id: last, method }) });
    });
}

/**
 * What grew or slowed down, as sentences.
 * @param {{ readings: Reading[], warnings: string[] }} run
 * @returns {string[]}
 */
export function complaints({ readings, warnings }) {
  const [first, last] = [readings[0], readings[readings.length - 1]];
  const mb = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
  const found = [...warnings];
  // A megabyte: caches of the browser itself. A handle that is not given back costs one in some tens of frames.
  for (const [name, what] of [
    ['heap', "the page's heap"],
    ['workerHeap', "the worker's heap"],
    ['wasm', 'wasm memory'],
  ]) {
    if (last[name] - first[name] > 1e6) found.push(`${what} grew from ${mb(first[name])} to ${mb(last[name])}`);
  }
  const medians = readings.map((r) => r.median).sort((a, b) => a - b);
  const median = medians[Math.floor(medians.length / 2)];
  const p95s = readings.map((r) => r.p95).sort((a, b) => a - b);
  const p95 = p95s[Math.floor(p95s.length / 2)];
  if (p95 > 2 * median)
    found.push(`p95 is ${p95.toFixed(1)} ms, more than twice the median of ${median.toFixed(1)} ms`);
  const around = readings.map((r) => r.around).sort((a, b) => a - b)[Math.floor(readings.length / 2)];
  if (around > 2) found.push(`what is around the nets takes ${around.toFixed(1)} ms, more than 2 ms`);
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { frames: { type: 'string', default: '20000' }, faces: { type: 'string', default: '1' } },
  });
  const endings = [];
  const t = { after: (/** @type {() => unknown} */ f) => endings.push(f) };
  try {
    console.log('  frames   page heap  worker heap   wasm memory   median      p95   around it   with a face');
    const mb = (/** @type {number} */ bytes, width) => `${(bytes / 1e6).toFixed(2)} MB`.padStart(width);
    const ms = (/** @type {number} */ time) => `${time.toFixed(1)} ms`.padStart(9);
    const run = await longRun(t, {
      frames: Number(values.frames),
      faces: Number(values.faces),
      onReading: (r) =>
        console.log(
          String(r.frames).padStart(8) +
            mb(r.heap, 12) +
            mb(r.workerHeap, 13) +
            mb(r.wasm, 14) +
            ms(r.median) +
            ms(r.p95) +
            ms(r.around).padStart(12) +
            `${(100 * r.found).toFixed(1)} %`.padStart(14),
        ),
    });
    const found = complaints(run);
    for (const complaint of found) console.error(complaint);
    process.exitCode = found.length ? 1 : 0;
    if (!found.length)
      console.log(
        'flat: nothing grew, no handle was dropped; p95 is within twice the median, and what is around the nets within 2 ms',
      );
  } finally {
    for (const end of endings.reverse()) await end();
  }
}
