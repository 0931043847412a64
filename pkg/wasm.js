// Fetches files, and holds the one wasm instance of this thread.
import init, { __wbg_reset_state as makeInstance } from './dist/face96.js';
import { Face96Error, asFace96Error } from './errors.js';
import { hasSimd } from './simd.js';

/** @typedef {import('./files.js').Bytes} Bytes */
/** @typedef {import('./files.js').Source} Source */

/**
 * The progress of a file.
 * @typedef {object} Progress
 * @property {'wasm' | 'weights' | 'finder'} part
 * @property {number} loaded bytes
 * @property {number | null} total bytes; null if the server does not send the size
 */

/** The first bytes of every wasm file. */
const MAGIC = [0, 97, 115, 109];
/** Matches the words by which browsers' errors name a content security policy. */
const POLICY = /content security policy|\bCSP\b|unsafe-eval/i;

/** @type {Promise<unknown> | null} */
let ready = null;
/** Counts the instances that trapped: a trap leaves the memory in an unknown state, so every object in it is lost. */
let trapped = 0;
/** Whether the next load must make a new instance. */
let broken = false;

/** A number by which a part of the engine can tell whether the instance it was made in still exists. */
export const wasmInstance = () => trapped;

/** Abandons this thread's instance; the next {@link loadWasm} makes another. No object made in it may be used again, or freed. */
export function giveUpWasm() {
  trapped++;
  broken = true;
}

/**
 * One of the package's own files, or its address.
 * @template T
 * @param {() => T | Promise<T>} file
 * @returns {Promise<T>}
 * @throws {Face96Error} `wasm-fetch`, or `wasm-unsupported` in a browser that cannot unpack it
 */
export async function ownFile(file) {
  try {
    return await file();
  } catch (error) {
    throw asFace96Error(error, 'wasm-unsupported');
  }
}

/**
 * Fetches and compiles the wasm, once per thread: later calls share the first one's instance, whatever their source, until it traps.
 * After a failure, the next call tries again.
 * @param {Source} source
 * @param {(progress: Progress) => void} [onProgress]
 * @returns {Promise<void>}
 */
export async function loadWasm(source, onProgress) {
  if (typeof WebAssembly !== 'object')
    throw new Face96Error('wasm-unsupported', 'This browser has no WebAssembly, or has it switched off.');
  ready ??= bytesOf(source, 'wasm', onProgress).then((bytes) =>
    compile(bytes, typeof source === 'string' ? source : 'The wasm'),
  );
  try {
    await ready;
    if (broken) makeInstance();
    broken = false;
  } catch (error) {
    ready = null;
    throw error;
  }
}

/** @param {Bytes} bytes @param {string} name the source of the bytes */
async function compile(bytes, name) {
  if (!MAGIC.every((byte, i) => bytes[i] === byte)) {
    const what = /^\s*</.test(String.fromCharCode(...bytes.subarray(0, 64))) ? 'a web page' : 'something else';
    throw new Face96Error(
      'wasm-compile',
      `The browser refused ${name}: it is ${what}, not wasm, so the file is not where the package expects it.`,
    );
  }
  try {
    await init({ module_or_path: /** @type {Uint8Array<ArrayBuffer>} */ (bytes) });
  } catch (error) {
    if (!hasSimd()) {
      const sentence =
        'The WebAssembly of this browser has no SIMD; versions from 2021 on have it, Safari from 2023 on.';
      throw new Face96Error('wasm-unsupported', sentence, { cause: error });
    }
    const why = error instanceof Error ? error.message : String(error);
    const hint = POLICY.test(why)
      ? "script-src of the page's content security policy needs 'wasm-unsafe-eval'"
      : 'it is damaged or was cut short';
    throw new Face96Error('wasm-compile', `The browser refused ${name}: ${hint} (${why}).`, { cause: error });
  }
}

/**
 * @param {Source} source
 * @param {Progress['part']} part
 * @param {(progress: Progress) => void} [onProgress]
 * @param {AbortSignal} [signal]
 * @returns {Promise<Bytes>}
 */
export async function bytesOf(source, part, onProgress, signal) {
  if (typeof source !== 'string') {
    onProgress?.({ part, loaded: source.length, total: source.length });
    return source;
  }
  const url = source;
  const code = part === 'wasm' ? 'wasm-fetch' : 'weights-fetch';
  // Node's fetch does not read files.
  const { process } = /** @type {any} */ (globalThis);
  const fs = url.startsWith('file:') ? process?.getBuiltinModule?.('node:fs') : undefined;
  if (fs) {
    try {
      return new Uint8Array(fs.readFileSync(new URL(url)));
    } catch (error) {
      throw new Face96Error(code, `Could not read ${url}: ${asFace96Error(error, code).message}.`, { cause: error });
    }
  }
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (signal?.aborted) throw new Face96Error('aborted', 'Loading was aborted.', { cause: error });
    throw new Face96Error(code, `Could not fetch ${url}: no answer (${asFace96Error(error, code).message}).`, {
      cause: error,
    });
  }
  if (!response.ok) {
    throw new Face96Error(
      code,
      `Could not fetch ${url}: the server answered ${response.status} ${response.statusText}`.trim() + '.',
    );
  }
  // With a content encoding, the length counts compressed bytes, while the reader sees decoded ones.
  const length = response.headers.get('content-encoding') ? null : response.headers.get('content-length');
  const total = length === null ? null : Number(length);
  try {
    return await readAll(response, (loaded) => onProgress?.({ part, loaded, total }));
  } catch (error) {
    if (signal?.aborted) throw new Face96Error('aborted', 'Loading was aborted.', { cause: error });
    throw new Face96Error(code, `Could not fetch ${url}: the connection broke off.`, { cause: error });
  }
}

/**
 * @param {Response} response
 * @param {(loaded: number) => void} report
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function readAll(response, report) {
  if (!response.body) return new Uint8Array(await response.arrayBuffer());
  const reader = response.body.getReader();
  /** @type {Uint8Array[]} */
  const chunks = [];
  let loaded = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    loaded += value.length;
    report(loaded);
  }
  const bytes = new Uint8Array(loaded);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
