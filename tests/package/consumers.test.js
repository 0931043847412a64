// The packed tarball, installed in the example projects beside this file and opened in Chromium. Each example is what a user
// can copy.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { cpSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { after, before, test } from 'node:test';
import { root, suite, temporaryFolder } from '../browser/harness.js';
import { writeSyntheticClip } from '../browser/clip.js';

const vite = join(root, 'node_modules/vite/bin/vite.js');
const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; style-src 'self'";
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm', '.css': 'text/css' };

const shared = suite({ clip: writeSyntheticClip });
const folder = temporaryFolder({ after });
let tarball = '';
before(() => {
  const packed = execFileSync('npm', ['pack', '--json', '--pack-destination', folder], { cwd: join(root, 'pkg'), stdio: 'pipe' });
  tarball = join(folder, JSON.parse(packed.toString())[0].filename);
});

/** Copies an example to an empty folder and installs the tarball there, with the example's other dependencies. */
function install(name) {
  const project = join(folder, name);
  cpSync(join(root, 'tests/package', name), project, { recursive: true });
  // --omit=dev: the bundler is the repository's own, so that only what ends up in a page is installed here.
  const flags = ['--no-audit', '--no-fund', '--prefer-offline', '--omit=dev', '--ignore-scripts'];
  execFileSync('npm', ['install', ...flags, tarball], { cwd: project, stdio: 'pipe' });
  return project;
}

/** Serves a folder, with a policy if one is given; returns the address. */
async function host(t, path, policy) {
  const server = createServer((request, response) => {
    const name = normalize(new URL(request.url, 'http://x').pathname);
    const file = join(path, name === '/' ? 'index.html' : name);
    try {
      const body = readFileSync(file);
      response.setHeader('Content-Type', TYPES[extname(file)] ?? 'application/octet-stream');
      if (policy) response.setHeader('Content-Security-Policy', policy);
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}/`;
}

/** Runs Vite's development server; returns the address. */
function develop(t, project) {
  const child = spawn(process.execPath, [vite, '--port', '0', '--host', '127.0.0.1', '--clearScreen', 'false'], { cwd: project, stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  return new Promise((resolve, reject) => {
    let printed = '';
    child.stdout.on('data', (text) => {
      printed += text;
      const url = printed.replace(/\u001b\[\d+m/g, '').match(/http:\/\/127\.0\.0\.1:\d+\//);
      if (url) resolve(url[0]);
    });
    child.on('exit', (code) => reject(new Error(`vite ended with ${code}: ${printed}`)));
  });
}

/** Opens a page and waits until its <output> says something that begins as expected. */
async function expectOutput(t, url, beginning) {
  const page = await shared.browser.newPage();
  t.after(() => page.close());
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('requestfailed', (request) => faults.push(`${request.url()} failed`));
  page.on('response', (response) => response.status() >= 400 && faults.push(`${response.status()} ${response.url()}`));
  await page.goto(url);
  const said = () => page.evaluate(() => document.querySelector('output')?.textContent);
  const end = Date.now() + 15_000;
  while (!(await said())?.startsWith(beginning)) {
    if (Date.now() > end) assert.fail(`the page says '${await said()}', not '${beginning}'; faults: ${faults.join('; ')}`);
    await page.waitForTimeout(100);
  }
  return { page, faults: faults.filter((fault) => !fault.includes('favicon')) };
}

test('the tarball holds what the package needs and nothing else', () => {
  const names = execFileSync('tar', ['tzf', tarball]).toString().trim().split('\n').map((name) => name.replace('package/', ''));
  for (const name of ['index.js', 'define.js', 'worker.js', 'dist/face96_bg.wasm', 'dist/types/index.d.ts', 'weights/compact.safetensors', 'README.md', 'LICENSE-MIT']) {
    assert.ok(names.includes(name), `${name} is missing`);
  }
  const odd = names.filter((name) => !/^(\w+\.js|define\.d\.ts|package\.json|README\.md|LICENSE[\w-]*|MODEL_CARD\.md|dist\/face96[\w.]*|dist\/types\/\w+\.d\.ts|weights\/\w+\.safetensors)$/.test(name));
  assert.deepEqual(odd, []);
});

test('publint and arethetypeswrong find nothing', () => {
  const run = (tool, ...args) => {
    const { status, stdout } = spawnSync(process.execPath, [join(root, 'node_modules', tool), ...args], { encoding: 'utf8' });
    assert.equal(status, 0, stdout);
  };
  run('publint/src/cli.js', tarball, '--strict');
  // The package is ESM: what old CommonJS resolution makes of it is not its business.
  run('@arethetypeswrong/cli/dist/index.js', tarball, '--profile', 'esm-only', '--exclude-entrypoints', './dist/face96_bg.wasm', './dist/face96_relaxed_bg.wasm', './weights/*');
});

test('plain HTML with an import map', async (t) => {
  const { faults } = await expectOutput(t, await host(t, install('html')), '15 keypoints');
  assert.deepEqual(faults, []);
});

test('Vite, development server and build', async (t) => {
  const project = install('vite');
  const dev = await expectOutput(t, await develop(t, project), '15 keypoints');
  assert.deepEqual(dev.faults, []);
  execFileSync(process.execPath, [vite, 'build'], { cwd: project, stdio: 'pipe' });
  const built = await expectOutput(t, await host(t, join(project, 'dist')), '15 keypoints');
  assert.deepEqual(built.faults, []);
});

test('a React component, built by Vite', async (t) => {
  const project = install('react');
  execFileSync(process.execPath, [vite, 'build'], { cwd: project, stdio: 'pipe' });
  const { faults, page } = await expectOutput(t, await host(t, join(project, 'dist')), '15 keypoints');
  assert.deepEqual(faults, []);
  assert.equal(await page.evaluate(() => document.querySelectorAll('face-keypoints').length), 1);
});

test('TypeScript, strict: tag, events, options and results have types', () => {
  const project = install('typescript');
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8' });
  assert.equal(status, 0, stdout);
});

test('imported on a server, in Node without a DOM', () => {
  const project = install('server');
  const printed = JSON.parse(execFileSync(process.execPath, ['page.js'], { cwd: project }).toString());
  assert.deepEqual(printed.guide, { x: 319.5, y: 239.5, size: 288, roll: 0 });
});

test('a strict content security policy; without wasm-unsafe-eval a sentence; without worker-src the main thread', async (t) => {
  const project = install('csp');
  const { faults } = await expectOutput(t, await host(t, project, POLICY), '15 keypoints');
  assert.deepEqual(faults, []);
  const blocked = await host(t, project, POLICY.replace(" 'wasm-unsafe-eval'", ''));
  const { page } = await expectOutput(t, blocked, 'wasm-compile');
  assert.match(await page.textContent('output'), /wasm-unsafe-eval/);
  await expectOutput(t, await host(t, project, POLICY.replace("worker-src 'self'", "worker-src 'none'")), '15 keypoints');
});
