// Writes docs/api.md, the package's reference, from the JSDoc types in pkg/: typedoc reads them, this script joins its pages.
//   node tools/api-docs.js           writes the file
//   node tools/api-docs.js --check   fails if it would change
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application, LogLevel } from 'typedoc';

const root = fileURLToPath(new URL('../', import.meta.url));
const target = join(root, 'docs/api.md');

/** Modules by the name under which they are imported. */
const MODULES = {
  index: 'face96',
  element: 'face96/element',
  define: 'face96/define',
  camera: 'face96/camera',
  draw: 'face96/draw',
  frames: 'face96/frames',
  synthetic: 'face96/synthetic',
};

/** The reference as one page. */
export async function apiReference() {
  const out = mkdtempSync(join(tmpdir(), 'face96-docs-'));
  try {
    const app = await Application.bootstrapWithPlugins({
      entryPoints: Object.keys(MODULES).map((name) => join(root, 'pkg', `${name}.js`)),
      tsconfig: join(root, 'tsconfig.json'),
      plugin: ['typedoc-plugin-markdown'],
      logLevel: LogLevel.Error,
      outputs: [{ name: 'markdown', path: out }],
      readme: 'none',
      disableSources: true,
      excludeInternal: true,
      excludePrivate: true,
      excludeExternals: true,
      // typedoc's own types do not know the options below, because they belong to the plugin.
      ...{
        outputFileStrategy: 'modules',
        hidePageHeader: true,
        hideBreadcrumbs: true,
        useCodeBlocks: true,
        parametersFormat: 'table',
        propertiesFormat: 'table',
        typeAliasPropertiesFormat: 'table',
      },
    });
    const project = await app.convert();
    if (!project) throw new Error('typedoc could not read pkg/');
    await app.generateOutputs(project);
    const pages = Object.entries(MODULES).map(([name, module]) => {
      const page = readFileSync(join(out, `${name}.md`), 'utf8');
      return (
        page
          .replace(/^# .*$/m, `# \`${module}\``)
          .replace(/\]\(\w+\.md(#[\w-]+)?\)/g, (_, anchor) => (anchor ? `](${anchor})` : `](#face96)`))
          // Removes what the signature above already says: setters, and results without a description.
          .replace(/^###### Set Signature\n(?:(?!#{1,5} |\*\*\*$).*\n)*/gm, '')
          .replace(/^###### Get Signature\n\n/gm, '')
          .replace(/^###### Returns\n\n.*\n\n?(?=#|\*\*\*|$)/gm, '')
      );
    });
    const head =
      'API reference. Made from the types in `pkg/` by `node tools/api-docs.js`; edit the comments there, not this file.\n\n';
    return head + pages.map((page) => page.trimEnd()).join('\n\n') + '\n';
  } finally {
    rmSync(out, { recursive: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = await apiReference();
  if (!process.argv.includes('--check')) writeFileSync(target, text);
  else if (readFileSync(target, 'utf8') !== text) {
    console.error('docs/api.md is not up to date: run node tools/api-docs.js');
    process.exitCode = 1;
  }
}
