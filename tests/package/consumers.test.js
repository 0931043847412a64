// The packed tarball, installed in the example projects beside this file and opened in Chromium. Each example is what a user
// can copy.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { executables, host, root, suite, temporaryFolder } from '../browser/harness.js';
import { writeSyntheticClip } from '../browser/clip.js';
import * as projects from './project.js';

const vite = join(root, 'node_modules/vite/bin/vite.js');
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; style-src 'self'";
const withPolicy = (policy) => ({ 'Content-Security-Policy': policy });

const shared = suite({ clip: writeSyntheticClip });
const pack = projects.packed();
const install = (name) => projects.install(pack, name);
const expectOutput = (t, url, beginning) => projects.expectOutput(t, shared.browser, url, beginning);

test('the tarball holds what the package needs and nothing else', () => {
  const names = execFileSync('tar', ['tzf', pack.tarball])
    .toString()
    .trim()
    .split('\n')
    .map((name) => name.replace('package/', ''));
  for (const name of [
    'index.js',
    'define.js',
    'worker.js',
    'dist/plain.js',
    'dist/types/index.d.ts',
    'weights/compact.safetensors',
    'README.md',
    'LICENSE-MIT',
  ]) {
    assert.ok(names.includes(name), `${name} is missing`);
  }
  const odd = names.filter(
    (name) =>
      !/^([\w.-]+\.js|define\.d\.ts|package\.json|README\.md|LICENSE[\w-]*|MODEL_CARD\.md|types\/(\w+\.d\.ts|empty\.js)|dist\/(face96[\w.]*|(inline|plain)\.js|[\w-]+\.json)|dist\/types\/[\w/-]+\.d\.ts|weights\/\w+\.safetensors)$/.test(
        name,
      ),
  );
  assert.deepEqual(odd, []);
});

test('publint and arethetypeswrong find nothing', () => {
  const run = (tool, ...args) => {
    const { status, stdout } = spawnSync(process.execPath, [join(root, 'node_modules', tool), ...args], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, stdout);
  };
  run('publint/src/cli.js', pack.tarball, '--strict');
  // The package is ESM: what old CommonJS resolution makes of it is not its business.
  run(
    '@arethetypeswrong/cli/dist/index.js',
    pack.tarball,
    '--profile',
    'esm-only',
    '--exclude-entrypoints',
    './dist/face96_relaxed_bg.wasm',
    './weights/*',
    './custom-elements.json',
    './vscode-html.json',
    './vscode-css.json',
    './web-types.json',
  );
});

test('plain HTML with an import map', async (t) => {
  const { faults } = await expectOutput(t, await host(t, install('html')), '15 keypoints');
  assert.deepEqual(faults, []);
});

test('Vite, development server and build', async (t) => {
  const project = install('vite');
  const dev = await expectOutput(t, await projects.develop(t, project), '15 keypoints');
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

test('the background of an extension finds faces, in itself', async (t) => {
  const project = install('extension');
  const context = await chromium.launchPersistentContext(temporaryFolder(t), {
    executablePath: executables.chromium,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      `--load-extension=${project}`,
      `--disable-extensions-except=${project}`,
      '--disable-features=DisableLoadExtensionCommandLineSwitch',
    ],
    ignoreDefaultArgs: ['--disable-extensions'],
  });
  t.after(() => context.close());
  const background = context.serviceWorkers()[0] ?? (await context.waitForEvent('serviceworker', { timeout: 20_000 }));
  assert.match(background.url(), /^chrome-extension:.*\/background\.js$/);
  const { createSyntheticFace } = await import('../../pkg/synthetic.js');
  const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
  const want = face.keypoints(0);
  const got = await background.evaluate(
    async (pixels) => {
      const canvas = new OffscreenCanvas(320, 240);
      canvas.getContext('2d').putImageData(new ImageData(Uint8ClampedArray.from(pixels), 320, 240), 0, 0);
      const faces = await globalThis.facesOf(await canvas.convertToBlob());
      return faces.map(({ keypoints }) => keypoints);
    },
    [...face.draw(0).data],
  );
  assert.equal(got.length, 1);
  const off = got[0].map(({ x, y }, k) => Math.hypot(x - want[k].x, y - want[k].y));
  assert.ok(off.reduce((a, b) => a + b) / off.length < 4, `off by ${off}`);
});

test('a strict content security policy; without wasm-unsafe-eval a sentence; without worker-src the main thread', async (t) => {
  const project = install('csp');
  const { faults } = await expectOutput(t, await host(t, project, withPolicy(POLICY)), '15 keypoints');
  assert.deepEqual(faults, []);
  const blocked = await host(t, project, withPolicy(POLICY.replace(" 'wasm-unsafe-eval'", '')));
  const { page } = await expectOutput(t, blocked, 'wasm-compile');
  assert.match(await page.textContent('output'), /wasm-unsafe-eval/);
  await expectOutput(
    t,
    await host(t, project, withPolicy(POLICY.replace("worker-src 'self'", "worker-src 'none'"))),
    '15 keypoints',
  );
});
