// What a camera frame of 640x480 costs the page beyond its nets, in Chromium without a GPU, the slowest way there is to draw.
//   node tests/browser/page-speed.js [--seconds 20] [--rounds 1] [--net compact68] [FOLDER that holds www and pkg ...]
// prints milliseconds a frame; several folders are measured in turns, which is how two versions are compared.
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeMovingClip } from './clip.js';
import { launch, makeClip, root, serve } from './harness.js';
import { chooseNet, open, running } from './visitor.js';

/** A reading is taken this often, in ms. */
const INTERVAL = 1000;
/** Frames in a reading that counts: with fewer of the camera's 30, other work held back the browser, and what it does by the second
 * falls on few frames. */
const ENOUGH = 24;

/**
 * Milliseconds a frame, each the median of all readings (the painter's: the mean).
 * @typedef {object} Cost
 * @property {number} frames that were measured; 0 where the machine was too busy all the time
 * @property {number} page processor time of the page's thread, all of it: being told of the frame, taking it, messages, smoothing's
 *   results, layout, painting, readings, log. Chromium's own part, for a page that is told of frames and does nothing, is 0.8
 * @property {number} worker what the detector's worker does besides the nets: the frame's luma, the crop
 * @property {number} painter processor time of the thread that draws points and crops, beside both; NaN where the system does not tell
 * @property {number} detector from the call of detect() to its result, less the nets: the package by itself
 * @property {number} nets finder and keypoints, for comparison
 */

/**
 * Lets the page follow a drawn face at 640x480 from the camera, with the settings that a visitor meets.
 * @param {{ after: (f: () => unknown) => void }} t ends browser and server
 * @param {{ clip: string, seconds: number, folder?: string, net?: string }} options clip: see {@link writeMovingClip}; seconds: that
 *   count, for which it goes on four times as long at most; net: a choice of the page, of which compact68 also reads expressions
 * @returns {Promise<Cost>}
 */
export async function pageCost(t, { clip, seconds, folder = root, net = 'compact' }) {
  const url = await serve(t, folder);
  const browser = await launch(t, { clip });
  const { page, context } = await open(t, browser, url);
  if (net !== 'compact') await chooseNet(page, net);
  await page.evaluate(async () => {
    const { FaceDetector } = await import('/pkg/index.js');
    const { detect } = FaceDetector.prototype;
    globalThis.seen = [];
    FaceDetector.prototype.detect = async function (...args) {
      const result = await detect.apply(this, args);
      globalThis.seen.push(result.timings);
      return result;
    };
  });
  await page.click('#start');
  await page.waitForSelector('.stage.found', { timeout: 20_000 });
  await running(page);
  const session = await context.newCDPSession(page);
  await session.send('Performance.enable');
  const read = async () => {
    const { metrics } = await session.send('Performance.getMetrics');
    const timings = await page.evaluate(() => globalThis.seen.splice(0));
    return { busy: 1000 * metrics.find(({ name }) => name === 'ThreadTime').value, timings };
  };
  await page.waitForTimeout(2 * INTERVAL); // code gets compiled
  const { processInfo } = await (await browser.newBrowserCDPSession()).send('SystemInfo.getProcessInfo');
  const painterBefore = painterTime(processInfo);
  let before = await read();
  let frames = 0;
  const pages = [];
  const all = [];
  for (let n = 0; n < 4 * seconds && pages.length < seconds; n++) {
    await page.waitForTimeout(INTERVAL);
    const now = await read();
    frames += now.timings.length;
    if (now.timings.length >= ENOUGH) {
      pages.push((now.busy - before.busy) / now.timings.length);
      all.push(...now.timings);
    }
    before = now;
  }
  return {
    frames: all.length,
    page: median(pages),
    worker: median(all.map(({ crop }) => crop)),
    painter: (painterTime(processInfo) - painterBefore) / frames,
    detector: median(all.map(({ total, net, find }) => total - net - find)),
    nets: median(all.map(({ net, find }) => net + find)),
  };
}

/**
 * What the painter's thread has taken so far, in ms: the older of the page's two workers, since the detector's comes with Start.
 * @param {{ type: string, id: number }[]} processes of the browser
 */
function painterTime(processes) {
  const tasks = processes
    .filter(({ type }) => type === 'renderer')
    .flatMap(({ id }) => {
      try {
        return readdirSync(`/proc/${id}/task`).map((task) => ({
          task: Number(task),
          path: `/proc/${id}/task/${task}`,
        }));
      } catch {
        return []; // no Linux
      }
    });
  const workers = tasks.filter(({ path }) => readFileSync(`${path}/comm`, 'utf8').startsWith('DedicatedWorker'));
  const [painter] = workers.sort((a, b) => a.task - b.task);
  return workers.length === 2 ? Number(readFileSync(`${painter.path}/schedstat`, 'utf8').split(' ')[0]) / 1e6 : NaN;
}

/** @param {number[]} values */
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    options: {
      seconds: { type: 'string', default: '20' },
      rounds: { type: 'string', default: '1' },
      net: { type: 'string', default: 'compact' },
    },
    allowPositionals: true,
  });
  const folders = positionals.length ? positionals : [root];
  const endings = [];
  const t = { after: (f) => endings.push(f) };
  const end = async () => {
    for (const f of endings.splice(0).reverse()) await f();
  };
  const home = mkdtempSync(join(tmpdir(), 'face96-'));
  try {
    const clip = join(home, 'camera.mjpeg');
    await makeClip(t, await serve(t), clip, writeMovingClip);
    await end();
    console.log('  frames   page   worker   together   painter   detector   nets');
    const ms = (value, width) => `${value.toFixed(2)}`.padStart(width);
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const folder of folders) {
        const c = await pageCost(t, { clip, folder, seconds: Number(values.seconds), net: values.net });
        if (!c.frames) console.log(`  the machine was too busy   ${folder}`);
        else
          console.log(
            String(c.frames).padStart(8) +
              ms(c.page, 7) +
              ms(c.worker, 9) +
              ms(c.page + c.worker, 11) +
              ms(c.painter, 10) +
              ms(c.detector, 11) +
              ms(c.nets, 7) +
              `   ${folder}`,
          );
        await end();
      }
    }
  } finally {
    await end();
    rmSync(home, { recursive: true });
  }
}
