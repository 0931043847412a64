// `make site`: the page as one folder of plain files, under any path of any host.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { writeSyntheticClip } from './clip.js';
import { host, root, suite, temporaryFolder } from './harness.js';
import { chooseNet, countRequests, open, playSample, running } from './visitor.js';

const shared = suite({ clip: writeSyntheticClip });

test('the site works as plain files under a path, with camera, offline and every net; names change with their content', async (t) => {
  const folder = temporaryFolder(t);
  const site = join(folder, 'some/path');
  execFileSync(process.execPath, [join(root, 'tools/site.js'), site], { stdio: 'pipe' });
  const counted = await countRequests(t, await host(t, folder));
  const { page, faults } = await open(t, shared.browser, `${counted.url}some/path/`);
  await page.waitForFunction(() => document.querySelector('#offline').textContent.includes('offline'));
  const paths = [...new Set(counted.requests)];
  assert.deepEqual(
    paths.filter((path) => !path.startsWith('/some/path/')),
    [],
  );
  const named = paths
    .map((path) => path.slice('/some/path/'.length).split('?')[0])
    .filter((path) => !/^(|sw\.js|offline-files\.js|manifest\.webmanifest)$/.test(path));
  assert.deepEqual(
    named.filter((path) => !/^assets\/[\w.-]+\.[0-9a-f]{10}\.\w+$/.test(path)),
    [],
  );
  for (const path of [...named, 'index.html']) {
    if (path.endsWith('.png')) continue;
    const content = readFileSync(join(site, path));
    assert.deepEqual(brotliDecompressSync(readFileSync(join(site, `${path}.br`))), content, path);
    assert.deepEqual(gunzipSync(readFileSync(join(site, `${path}.gz`))), content, path);
  }
  const policy = await page.getAttribute('meta[http-equiv="Content-Security-Policy"]', 'content');
  assert.match(policy, /^default-src 'none'; script-src 'self' 'wasm-unsafe-eval';/);
  assert.ok(readFileSync(join(site, '_headers'), 'utf8').includes(policy));
  for (const net of await page.evaluate(() =>
    [...document.querySelectorAll('#net-choice option')].map(({ value }) => value),
  )) {
    await chooseNet(page, net);
    await playSample(page);
    await page.click('#stop');
  }
  // The proof by the host's absence.
  counted.close();
  await page.reload();
  await page.click('#start');
  await running(page);
  await page.waitForSelector('.stage.found');
  assert.deepEqual(faults, []);
  assert.ok(existsSync(join(site, 'assets')));
});
