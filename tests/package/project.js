// What the tests of the packed package share: the tarball, and the example projects beside this file with it installed.
import { execFileSync, spawn } from 'node:child_process';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { root, temporaryFolder } from '../browser/harness.js';

/** Packs the package for all tests of a file. @returns {{ folder: string, tarball: string }} filled in before the first test */
export function packed() {
  const shared = { folder: temporaryFolder({ after }), tarball: '' };
  before(() => {
    const printed = execFileSync('npm', ['pack', '--json', '--pack-destination', shared.folder], {
      cwd: join(root, 'pkg'),
      stdio: 'pipe',
    });
    shared.tarball = join(shared.folder, JSON.parse(printed.toString())[0].filename);
  });
  return shared;
}

/**
 * Copies an example to an empty folder and installs the tarball there, with the example's other dependencies.
 * @param {{ folder: string, tarball: string }} shared
 * @param {string} name of the example
 * @param {string} [as] name of the folder
 */
export function install({ folder, tarball }, name, as = name) {
  const project = join(folder, as);
  cpSync(join(root, 'tests/package', name), project, { recursive: true });
  // --omit=dev: the bundler is the repository's own, so that only what ends up in a page is installed here.
  const flags = ['--no-audit', '--no-fund', '--prefer-offline', '--omit=dev', '--ignore-scripts'];
  execFileSync('npm', ['install', ...flags, tarball], { cwd: project, stdio: 'pipe' });
  return project;
}

/**
 * Runs Vite's development server.
 * @param {import('node:test').TestContext} t ends it
 * @param {string} project
 * @param {string} [vite] its script
 * @returns {Promise<string>} the address
 */
export function develop(t, project, vite = join(root, 'node_modules/vite/bin/vite.js')) {
  const flags = ['--port', '0', '--host', '127.0.0.1', '--clearScreen', 'false', '--force'];
  const child = spawn(process.execPath, [vite, ...flags], { cwd: project, stdio: ['ignore', 'pipe', 'inherit'] });
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

/**
 * Opens a page and waits until its <output> says something that begins as expected.
 * @param {import('node:test').TestContext} t
 * @param {import('playwright-core').Browser} browser
 * @param {string} url
 * @param {string} beginning
 */
export async function expectOutput(t, browser, url, beginning) {
  const page = await browser.newPage();
  t.after(() => page.close());
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('requestfailed', (request) => faults.push(`${request.url()} failed`));
  page.on('response', (response) => response.status() >= 400 && faults.push(`${response.status()} ${response.url()}`));
  await page.goto(url);
  const said = () => page.evaluate(() => document.querySelector('output')?.textContent);
  const end = Date.now() + 15_000;
  while (!(await said())?.startsWith(beginning)) {
    if (Date.now() > end)
      assert.fail(`the page says '${await said()}', not '${beginning}'; faults: ${faults.join('; ')}`);
    await page.waitForTimeout(100);
  }
  return { page, faults: faults.filter((fault) => !fault.includes('favicon')) };
}
