// The packed tarball with the tools people use, in the versions that they use: each builds or serves the same page, which finds the face in
// the camera; or runs its tests, or checks its types.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { host, root, suite } from '../browser/harness.js';
import { writeSyntheticClip } from '../browser/clip.js';
import { develop, expectOutput, install, packed } from './project.js';

const shared = suite({ clip: writeSyntheticClip });
const pack = packed();
const tools = join(root, 'tests/package/tools');
const require = createRequire(join(tools, 'package.json'));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

/** The page as an application's code, and the same from the package in one file. */
let app = '';
before(() => {
  const [installed, lock] = [join(tools, 'node_modules/.package-lock.json'), join(tools, 'package-lock.json')];
  if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(lock).mtimeMs) {
    execFileSync('npm', ['ci', '--silent', '--ignore-scripts', '--prefer-offline'], { cwd: tools, stdio: 'pipe' });
  }
  app = install(pack, 'vite', 'app');
  const code = readFileSync(join(app, 'main.js'), 'utf8');
  writeFileSync(join(app, 'inline.js'), code.replace(/from 'face96(\/\w+)?'/g, "from 'face96/inline'"));
});

/** A folder with a page for what a bundler writes to main.js in it. */
function target(name) {
  const folder = join(pack.folder, name);
  mkdirSync(folder);
  cpSync(join(app, 'index.html'), join(folder, 'index.html'));
  return folder;
}

async function works(t, folder) {
  const { faults } = await expectOutput(t, shared.browser, await host(t, folder), '15 keypoints');
  assert.deepEqual(faults, []);
}

for (const version of ['5', '6', '7']) {
  test(`Vite ${version}, development server and build`, async (t) => {
    const vite = join(tools, `node_modules/vite-${version}/bin/vite.js`);
    assert.ok(
      JSON.parse(readFileSync(join(tools, `node_modules/vite-${version}/package.json`), 'utf8')).version.startsWith(
        `${version}.`,
      ),
    );
    const { faults } = await expectOutput(t, shared.browser, await develop(t, app, vite), '15 keypoints');
    assert.deepEqual(faults, []);
    const out = join(pack.folder, `vite-${version}`);
    execFileSync(process.execPath, [vite, 'build', '--outDir', out], { cwd: app, stdio: 'pipe' });
    await works(t, out);
  });
}

for (const mode of ['production', 'development']) {
  test(`webpack 5, ${mode}`, async (t) => {
    const { default: webpack } = await load('webpack');
    const folder = target(`webpack-${mode}`);
    const compiler = webpack({ mode, context: app, entry: './main.js', output: { path: folder, filename: 'main.js' } });
    const stats = await new Promise((resolve, reject) =>
      compiler.run((error, stats) => (error ? reject(error) : resolve(stats))),
    );
    await new Promise((resolve) => compiler.close(resolve));
    assert.deepEqual(
      stats.compilation.errors.map(({ message }) => message),
      [],
    );
    await works(t, folder);
  });
}

test('Rollup, with the package in one file', async (t) => {
  const { rollup } = await load('rollup');
  const { default: resolve } = await load('@rollup/plugin-node-resolve');
  const folder = target('rollup');
  const build = await rollup({
    input: join(app, 'inline.js'),
    plugins: [resolve()],
    onwarn: ({ message }) => assert.fail(message),
  });
  await build.write({ file: join(folder, 'main.js') });
  await build.close();
  await works(t, folder);
});

test('esbuild, with the package in one file', async (t) => {
  const { default: esbuild } = await load('esbuild');
  const folder = target('esbuild');
  const { warnings } = await esbuild.build({
    entryPoints: [join(app, 'inline.js')],
    bundle: true,
    minify: true,
    format: 'esm',
    outfile: join(folder, 'main.js'),
    logLevel: 'silent',
  });
  assert.deepEqual(warnings, []);
  await works(t, folder);
});

test('Parcel, production', async (t) => {
  const folder = join(pack.folder, 'parcel');
  const project = install(pack, 'vite', 'parcel-app');
  // Its entry is a page with relative addresses.
  const page = readFileSync(join(project, 'index.html'), 'utf8');
  writeFileSync(join(project, 'index.html'), page.replace('"/main.js"', '"main.js"'));
  writeFileSync(
    join(project, 'package.json'),
    JSON.stringify({
      private: true,
      type: 'module',
      dependencies: { face96: '*' },
      '@parcel/resolver-default': { packageExports: true },
    }),
  );
  const parcel = join(tools, 'node_modules/parcel/lib/bin.js');
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [parcel, 'build', 'index.html', '--dist-dir', folder, '--no-source-maps', '--no-autoinstall'],
    {
      cwd: project,
      encoding: 'utf8',
      env: { ...process.env, NODE_PATH: join(tools, 'node_modules'), NODE_ENV: 'production' },
    },
  );
  assert.equal(status, 0, stdout + stderr);
  await works(t, folder);
});

test('Next, exported as plain files', async (t) => {
  const project = install(pack, 'next', 'next-app');
  const { status, stdout, stderr } = spawnSync(process.execPath, ['node_modules/next/dist/bin/next', 'build'], {
    cwd: project,
    encoding: 'utf8',
    env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1' },
  });
  assert.equal(status, 0, stdout + stderr);
  await works(t, join(project, 'out'));
});

test('one script from another origin, as from a CDN: the nets run in a worker all the same', async (t) => {
  const cdn = await host(t, join(app, 'node_modules/face96'), { 'Access-Control-Allow-Origin': '*' });
  const folder = target('cdn');
  writeFileSync(
    join(folder, 'main.js'),
    readFileSync(join(app, 'inline.js'), 'utf8').replaceAll("'face96/inline'", `'${cdn}dist/inline.js'`),
  );
  const { page, faults } = await expectOutput(t, shared.browser, await host(t, folder), '15 keypoints');
  assert.deepEqual(faults, []);
  assert.equal(page.workers().length, 1);
  assert.match(page.workers()[0].url(), /^blob:/);
});

for (const [policy, kind] of [
  ['blob:', /^blob:/],
  ['data:', /^data:/],
  ["'none'", null],
]) {
  test(`the package in one file under worker-src ${policy}`, async (t) => {
    const folder = target(`policy-${policy.replace(/\W/g, '')}`);
    for (const name of ['inline.js', 'plain.js'])
      cpSync(join(app, 'node_modules/face96/dist', name), join(folder, name.replace('inline', 'face96')));
    writeFileSync(
      join(folder, 'main.js'),
      readFileSync(join(app, 'inline.js'), 'utf8').replaceAll("'face96/inline'", "'./face96.js'"),
    );
    const headers = {
      'Content-Security-Policy': `default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src ${policy}`,
    };
    const { page } = await expectOutput(t, shared.browser, await host(t, folder, headers), '15 keypoints');
    assert.deepEqual(
      page.workers().map((worker) => kind?.test(worker.url())),
      kind ? [true] : [],
    );
  });
}

for (const [name, args] of [
  ['vitest', ['node_modules/vitest/vitest.mjs', 'run', '--globals']],
  ['jest', ['--experimental-vm-modules', '--no-warnings', 'node_modules/jest/bin/jest.js', '--ci']],
]) {
  test(`${name}: an application's tests, of the element in jsdom and of the nets on raw pixels`, () => {
    const project = install(pack, 'testing', name);
    const [flags, script, ...rest] =
      args.length > 3 && args[0].startsWith('--') ? [args.slice(0, 2), ...args.slice(2)] : [[], ...args];
    const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, join(tools, script), ...rest], {
      cwd: project,
      encoding: 'utf8',
      env: { ...process.env, NODE_PATH: join(tools, 'node_modules') },
    });
    assert.equal(status, 0, stdout + stderr);
  });
}

for (const version of ['5.0', '5.4', 'latest']) {
  test(`TypeScript ${version}, strict, without skipLibCheck`, () => {
    const project = install(pack, 'typescript', `typescript-${version}`);
    const tsc = join(tools, `node_modules/typescript-${version}/bin/tsc`);
    const resolutions = [
      ['NodeNext', 'NodeNext'],
      ['ESNext', 'Bundler'],
      ...(version === 'latest' ? [] : [['ESNext', 'Node10']]),
    ];
    for (const [module, moduleResolution] of resolutions) {
      const { status, stdout } = spawnSync(
        process.execPath,
        [tsc, '-p', project, '--module', module, '--moduleResolution', moduleResolution],
        { encoding: 'utf8' },
      );
      assert.equal(status, 0, `${moduleResolution}: ${stdout}`);
    }
  });
}

test('Node, Deno and Bun find the faces of a picture that sharp reads', async () => {
  const project = install(pack, 'runtimes');
  const file = join(project, 'faces.png');
  const { default: sharp } = await import(pathToFileURL(join(project, 'node_modules/sharp/lib/index.js')).href);
  const { createSyntheticFace } = await import(pathToFileURL(join(root, 'pkg/synthetic.js')).href);
  const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
  await sharp(Buffer.from(face.draw(0).data), { raw: { width: 320, height: 240, channels: 4 } })
    .png()
    .toFile(file);
  const want = face.keypoints(0);
  const found = [
    [process.execPath],
    [join(tools, 'node_modules/@deno/linux-x64-glibc/deno'), 'run', '--allow-all', '--no-prompt'],
    [join(tools, 'node_modules/@oven/bun-linux-x64/bin/bun')],
  ].map(([program, ...flags]) => {
    const { status, stdout, stderr } = spawnSync(program, [...flags, 'faces.js', file], {
      cwd: project,
      encoding: 'utf8',
      env: { ...process.env, DENO_NO_UPDATE_CHECK: '1' },
    });
    assert.equal(status, 0, `${program}: ${stdout}${stderr}`);
    return JSON.parse(stdout);
  });
  for (const { faces } of found) {
    assert.equal(faces.length, 1);
    const off = faces[0].keypoints.map(({ x, y }, k) => Math.hypot(x - want[k].x, y - want[k].y));
    assert.ok(off.reduce((a, b) => a + b) / off.length < 4, `off by ${off}`);
  }
  // One of them has relaxed-simd.
  const [node, ...others] = found.map(({ faces }) => faces[0].keypoints);
  for (const other of others)
    other.forEach(({ x, y }, k) => assert.ok(Math.hypot(x - node[k].x, y - node[k].y) < 1e-3));
});
