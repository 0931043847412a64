// The reference in docs/api.md is made from the types; this holds it to them.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { apiReference } from '../../tools/api-docs.js';

test('docs/api.md is up to date', async () => {
  const written = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8');
  assert.ok(written === (await apiReference()), 'run node tools/api-docs.js');
});
