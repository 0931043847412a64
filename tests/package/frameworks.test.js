// The tag in the components of frameworks: each example beside this file has types for what it sets and hears, and a fault that they
// find.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../browser/harness.js';
import { install, packed } from './project.js';

const pack = packed();
const tsc = join(root, 'node_modules/typescript/bin/tsc');

for (const [name, checker] of [
  ['react-18'],
  ['react-19'],
  ['preact'],
  ['solid'],
  ['vue', 'vue-tsc/bin/vue-tsc.js'],
  ['svelte', 'svelte-check/bin/svelte-check'],
]) {
  test(`a component of ${name} compiles, and one with a wrong attribute does not`, () => {
    const project = install(pack, `frameworks/${name}`, name);
    const script = checker ? join(project, 'node_modules', checker) : tsc;
    const flags =
      name === 'svelte'
        ? ['--tsconfig', './tsconfig.json', '--fail-on-warnings', '--output', 'machine']
        : ['-p', project];
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...flags], {
      cwd: project,
      encoding: 'utf8',
    });
    assert.equal(status, 0, stdout + stderr);
  });
}

test('the manifest, and the data for VS Code and JetBrains, know each attribute, event and part', () => {
  const read = (name) => JSON.parse(readFileSync(join(root, 'pkg/dist', name), 'utf8'));
  const source = readFileSync(join(root, 'pkg/element.js'), 'utf8');
  const [declaration] = read('custom-elements.json').modules[0].declarations;
  const names = (list) => list.map(({ name }) => name).sort();
  // What the class observes, sends and names, not what its comment says.
  const attributes = [...source.matchAll(/^const (?:BOOLEANS|STRINGS|NUMBERS) = \{(.*)\};$/gm)].flatMap(([, group]) =>
    [...group.matchAll(/: '([\w-]+)'/g)].map(([, name]) => name),
  );
  assert.deepEqual(names(declaration.attributes), attributes.sort());
  const events = [...source.matchAll(/^ \* @property \{CustomEvent<.*>\} (\w+)/gm)].map(([, name]) => name);
  assert.ok(events.includes('blink'));
  assert.deepEqual(names(declaration.events), events.sort());
  const parts = [...source.matchAll(/part: '(\w+)'/g)].map(([, name]) => name);
  assert.deepEqual(names(declaration.cssParts), parts.sort());
  const [tag] = read('vscode-html.json').tags;
  assert.equal(tag.name, 'face-keypoints');
  assert.deepEqual(names(tag.attributes), attributes);
  const [element] = read('web-types.json').contributions.html.elements;
  assert.equal(element.name, 'face-keypoints');
  assert.deepEqual(names(element.attributes), attributes);
  assert.deepEqual(names(element.js.events), events);
});
