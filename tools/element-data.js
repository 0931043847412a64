// Writes the data that editors and frameworks read about the element, from its source alone: pkg/dist/custom-elements.json by the analyzer of
// the custom elements manifest, and from that, by their generators, the data of VS Code and JetBrains and the types of JSX and Vue. (Svelte's
// types are made from those of JSX, because the output of the generator for Svelte does not compile in Svelte 5.)
//   node tools/element-data.js
import { create, ts } from '@custom-elements-manifest/analyzer';
import { generateJsxTypes } from '@wc-toolkit/jsx-types';
import { generateJetBrainsWebTypes } from 'custom-element-jet-brains-integration';
import { generateVsCodeCustomElementData } from 'custom-element-vs-code-integration';
import { generateVuejsTypes } from 'custom-element-vuejs-integration';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../pkg/dist/', import.meta.url));
const types = join(dist, 'types');
mkdirSync(types, { recursive: true });

const source = ts.createSourceFile(
  'element.js',
  readFileSync(join(dist, '../element.js'), 'utf8'),
  ts.ScriptTarget.ES2022,
  true,
);
const manifest = create({ modules: [source], plugins: [] });
manifest.modules[0].declarations = manifest.modules[0].declarations.filter((declaration) => declaration.customElement);
const [element] = manifest.modules[0].declarations;
// Members that HTMLElement has under the same name, and private ones, are left out.
element.superclass = { name: 'HTMLElement' };
element.members = element.members.filter(
  (member) => member.privacy !== 'private' && !['muted', 'textContent'].includes(member.name),
);
element.events = element.events.filter(({ description }) => description);
for (const attribute of element.attributes) {
  attribute.fieldName = attribute.name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());
  const member = element.members.find(({ name }) => name === attribute.fieldName);
  Object.assign(member, { attribute: attribute.name, type: attribute.type });
}
manifest.modules[0].exports = [
  {
    kind: 'custom-element-definition',
    name: element.tagName,
    declaration: { name: element.name, module: 'element.js' },
  },
  { kind: 'js', name: element.name, declaration: { name: element.name, module: 'element.js' } },
];
writeFileSync(join(dist, 'custom-elements.json'), JSON.stringify(manifest, null, 1));

const log = console.log;
console.log = () => {};
const { version } = JSON.parse(readFileSync(join(dist, '../package.json'), 'utf8'));
generateVsCodeCustomElementData(manifest, {
  outdir: dist,
  htmlFileName: 'vscode-html.json',
  cssFileName: 'vscode-css.json',
});
generateJetBrainsWebTypes(manifest, { outdir: dist, fileName: 'web-types.json', packageJson: false, version });

// Types are checked against those of the JSDoc, under the names that element.js exports.
for (const event of element.events) event.type = { text: `FaceKeypointsEvents["${event.name}"]` };
generateJsxTypes(manifest, { outdir: types, fileName: 'jsx.d.ts', globalTypePath: './element.js' });
generateVuejsTypes(manifest, { outdir: types, fileName: 'vue.d.ts', globalTypePath: './element.js' });
for (const file of ['jsx.d.ts', 'vue.d.ts']) {
  // A module that is not installed cannot be augmented, so pkg/types/ does it for one framework each.
  const [text] = readFileSync(join(types, file), 'utf8').split('declare module "react"');
  const imported = text.replace(
    /import type \{ FaceKeypointsElement\b[^}]*\} from/,
    'import type { FaceKeypointsElement, FaceKeypointsEvents } from',
  );
  writeFileSync(join(types, file), imported.replace(/CustomEvent<(FaceKeypointsEvents\["\w+"\])>/g, '$1'));
}
console.log = log;
