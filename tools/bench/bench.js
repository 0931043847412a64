// make bench: face96 beside other runtimes on this machine, interleaved in one go. Prints a table, writes the figures to
// target/bench/browser.json and training.json ({ net: { runtime: { median, p95 } } }, milliseconds and samples a second),
// the limits to limits.json, our nets in turns with each other to ratio.json, and a picture of everything to bench.svg.
//
//   node tools/bench/bench.js [--quick] [browser] [ratio] [training]
import { execFile } from 'node:child_process';
import { createReadStream, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { picture } from './picture.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const folder = join(root, 'target/bench');
const program = process.env.FACE96 ?? join(root, 'target/release/face96');
const python = process.env.PYTHON ?? '/usr/bin/python3';
const nets = ['net2', 'compact'];
const run = promisify(execFile);

const quick = process.argv.includes('--quick');
const parts = process.argv.slice(2).filter((a) => !a.startsWith('-'));
const wanted = (part) => parts.length === 0 || parts.includes(part);

/** @param {number[]} values @param {number} share */
function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
const median = (values) => quantile(values, 0.5);
const percent = (share) => `${(100 * share).toFixed(0)} %`;
const write = (name, value) => writeFileSync(join(folder, name), JSON.stringify(value, null, 1) + '\n');

/** The repository over HTTP, isolated so that the page's clock is exact to 5 microseconds. */
function serve() {
  const types = {
    '.html': 'text/html',
    '.js': 'text/javascript',
    '.mjs': 'text/javascript',
    '.json': 'application/json',
    '.wasm': 'application/wasm',
  };
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname));
    const file = join(root, path);
    if (!['/tools/bench/', '/target/bench/', '/pkg/'].some((f) => path.startsWith(f)) || !existsSync(file)) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      'content-type': types[extname(file)] ?? 'application/octet-stream',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

/**
 * Runs `measure` on a page in Chromium with our builds: `face96`, the one that a page in this browser would load, and
 * possibly the other one.
 * @template T @param {(page: import('playwright-core').Page, builds: Record<string, { glue: string, wasm: string }>) => Promise<T>} measure
 */
async function inChromium(measure) {
  const server = await serve();
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
  try {
    const page = await browser.newPage();
    page.on('pageerror', (error) => console.error(error));
    await page.goto(`http://127.0.0.1:${server.address().port}/tools/bench/page.html`);
    const relaxed = await page.evaluate(async () => (await import('/pkg/simd.js')).hasRelaxedSimd());
    const plain = { glue: '/pkg/dist/face96.js', wasm: '/pkg/dist/face96_bg.wasm' };
    return await measure(
      page,
      relaxed
        ? {
            face96: { glue: '/pkg/dist/face96.js?relaxed', wasm: '/pkg/dist/face96_relaxed_bg.wasm' },
            'face96-simd128': plain,
          }
        : { face96: plain },
    );
  } finally {
    await browser.close();
    server.close();
  }
}

const browserPart = () =>
  inChromium(async (page, ours) => {
    const builds = {
      ...ours,
      candle: { glue: '/target/bench/candle/candle.js', wasm: '/target/bench/candle/candle_bg.wasm' },
    };
    const figures = {};
    const limits = {};
    for (const net of nets) {
      const result = await page.evaluate(
        async ([net, builds, rounds, frames]) => {
          const { load, time } = await import('/tools/bench/page.js');
          const loaded = await load(net, builds);
          const { times, rates } = await time(loaded, rounds, frames);
          return { times, rates, worst: loaded.worst, multiplyAdds: loaded.multiplyAdds, profile: loaded.profile() };
        },
        [net, builds, quick ? 4 : 20, quick ? 3 : 10],
      );
      figures[net] = {};
      for (const [name, times] of Object.entries(result.times))
        figures[net][name] = { median: median(times), p95: quantile(times, 0.95) };
      limits[net] = { multiplyAdds: result.multiplyAdds, outputsApartPx: result.worst, profile: result.profile };
      for (const [name, rates] of Object.entries(result.rates)) {
        const limit = median(rates);
        const made = result.profile.reduce((sum, [, , n]) => sum + n, 0);
        const share = (n) => n / (figures[net][name].median / 1000) / limit;
        limits[net][name] = { limitPerSecond: limit, share: share(result.multiplyAdds), shareMade: share(made) };
      }
    }
    return { figures, limits };
  });

/** Our nets in turns with each other: in the browser part they run one after the other, and a machine's speed can change meanwhile. */
const ratioPart = () =>
  inChromium(async (page, { face96 }) => {
    const times = await page.evaluate(
      async ([nets, build, rounds]) => {
        const { loadOurs, time } = await import('/tools/bench/page.js');
        return (await time({ runtimes: await loadOurs(nets, build) }, rounds, 10)).times;
      },
      [nets, face96, quick ? 20 : 200],
    );
    const [net2, compact] = nets.map((net) => median(times[net]));
    return { net2, compact, compactByNet2: compact / net2 };
  });

async function trainingPart() {
  const options = { env: { ...process.env, RAYON_NUM_THREADS: '2', OMP_NUM_THREADS: '2', OPENBLAS_NUM_THREADS: '2' } };
  const ours = (device) => (net, seconds) =>
    run(program, ['bench', '--nets', net, '--training', device, '--seconds', seconds], options);
  const script = join(root, 'tools/bench/training.py');
  const contestants = {
    face96: ours('cpu'),
    candle: ours('candle'),
    pytorch: (net, seconds) =>
      run(python, [script, join(folder, `${net}.task.safetensors`), '--seconds', seconds], options),
  };
  const figures = {};
  for (const net of nets) {
    const rates = {};
    const losses = {};
    for (let round = 0; round < (quick ? 1 : 5); round++) {
      for (const [name, start] of Object.entries(contestants)) {
        // candle takes seconds for a step, so three steps are enough.
        const seconds = quick || name === 'candle' ? '0' : '3';
        if (name === 'candle' && round > 1) continue;
        const result = JSON.parse((await start(net, seconds)).stdout);
        (rates[name] ??= []).push(...result.seconds.map((s) => result.batch / s));
        losses[name] = result.losses;
      }
    }
    // candle 0.11 divides the gradient of its max_pool2d by the square of its size, so with pools only the first loss agrees.
    for (const [name, found] of Object.entries(losses)) {
      const steps = name === 'candle' && net === 'net2' ? 1 : 3;
      if (found.slice(0, steps).some((v, i) => !(Math.abs(v - losses.face96[i]) <= 1e-3 * Math.abs(v)))) {
        throw new Error(`${net}: ${name} trains to losses ${found}, face96 to ${losses.face96}`);
      }
    }
    figures[net] = {};
    for (const [name, values] of Object.entries(rates))
      figures[net][name] = { median: median(values), p95: quantile(values, 0.05) };
  }
  return figures;
}

/** Columns of text; the first one left-aligned, the others right-aligned. @param {string[][]} rows */
function table(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  return rows
    .map((row) => row.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  '))
    .join('\n');
}

// Weights, ONNX, steps and training task of each net, as it begins training.
mkdirSync(folder, { recursive: true });
await run(program, ['bench', '--nets', nets.join(','), '--files', folder]);
const charts = [];
const show = (title, unit, figures) => {
  const rows = [[title, 'median', 'p95', 'face96 by it']];
  for (const net of nets) {
    for (const [name, { median, p95 }] of Object.entries(figures[net])) {
      rows.push([
        `${net} ${name}`,
        median.toFixed(2),
        p95.toFixed(2),
        (figures[net].face96.median / median).toFixed(2),
      ]);
    }
    charts.push({
      title: `${net}, ${title}`,
      unit,
      bars: Object.entries(figures[net]).map(([name, { median }]) => [name, median]),
    });
  }
  console.log(`\n${table(rows)}`);
};
if (wanted('browser')) {
  const { figures, limits } = await browserPart();
  write('browser.json', figures);
  write('limits.json', limits);
  show('forward in the browser, 1 thread, ms', 'ms', figures);
  const rows = [['limit: registers alone', 'billion a second', 'share, plain sums', 'share, as made']];
  for (const net of nets) {
    for (const [name, { limitPerSecond, share, shareMade }] of Object.entries(limits[net]).filter(([, v]) => v.share)) {
      rows.push([`${net} ${name}`, (limitPerSecond / 1e9).toFixed(1), percent(share), percent(shareMade)]);
    }
  }
  console.log(
    `\n${table(rows)}\nMultiply-adds counted as those of the plain sums, or as made: Winograd's way makes fewer, so the first can pass 100 %.`,
  );
  for (const net of nets) {
    const limit = limits[net]['face96-simd128']?.limitPerSecond ?? limits[net].face96.limitPerSecond;
    const steps = limits[net].profile.map(([name, ms, n]) => [
      name,
      ms.toFixed(3),
      (n / 1e6).toFixed(2),
      n && ms ? percent(n / (ms / 1000) / limit) : '',
    ]);
    console.log(
      `\n${table([[`${net}: where a frame goes (simd128)`, 'ms', 'million multiply-adds made', 'of the limit'], ...steps])}`,
    );
  }
}
if (wanted('ratio')) {
  const ratio = await ratioPart();
  write('ratio.json', ratio);
  const { net2, compact, compactByNet2 } = ratio;
  console.log(
    `\nface96's nets in turns: net2 ${net2.toFixed(2)} ms, compact ${compact.toFixed(2)} ms, compact by net2 ${compactByNet2.toFixed(2)}`,
  );
}
if (wanted('training')) {
  const figures = await trainingPart();
  write('training.json', figures);
  show('training, 2 threads, samples/s', 'samples/s', figures);
}
writeFileSync(join(folder, 'bench.svg'), picture(charts));
console.log(`\nfigures and picture: ${folder}`);
