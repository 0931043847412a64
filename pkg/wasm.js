// Fetching, and the one wasm instance of this thread.
import init, { __wbg_reset_state as makeInstance } from './dist/face96.js';
import { Face96Error, asFace96Error } from './errors.js';

/**
 * How far a file has come.
 * @typedef {object} Progress
 * @property {'wasm' | 'weights' | 'finder'} part
 * @property {number} loaded bytes
 * @property {number | null} total bytes; null where the server does not say
 */

/** @type {Promise<unknown> | null} */
let ready = null;
/** Counts the instances that trapped: a trap leaves their memory in an unknown state, so that what lives there is lost. */
let trapped = 0;
/** Whether the next load has to make an instance. */
let broken = false;

/** What a part of the engine keeps, to know whether the instance that it was made in is still there. */
export const wasmInstance = () => trapped;

/** Gives this thread's instance up; the next {@link loadWasm} makes another. Nothing that was made in it may be used again, or freed. */
export function giveUpWasm() {
  trapped++;
  broken = true;
}

/**
 * Fetches and compiles the wasm, once a thread: later calls share the first one's instance, whatever their address, until it traps.
 * A failure is forgotten, so that the next call tries again.
 * @param {string} url
 * @param {(progress: Progress) => void} [onProgress]
 * @returns {Promise<void>}
 */
export async function loadWasm(url, onProgress) {
  ready ??= fetchBytes(url, 'wasm', onProgress).then((bytes) =>
    init({ module_or_path: bytes }).catch((error) => {
      const why = error instanceof Error ? error.message : String(error);
      const hint = "where a content security policy is set, script-src needs 'wasm-unsafe-eval'";
      throw new Face96Error('wasm-compile', `The browser refused ${url}: ${why} (${hint}).`, { cause: error });
    }),
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

/**
 * @param {string} url
 * @param {Progress['part']} part
 * @param {(progress: Progress) => void} [onProgress]
 * @param {AbortSignal} [signal]
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function fetchBytes(url, part, onProgress, signal) {
  const code = part === 'wasm' ? 'wasm-fetch' : 'weights-fetch';
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (signal?.aborted) throw new Face96Error('aborted', 'Loading was aborted.', { cause: error });
    throw new Face96Error(code, `Could not fetch ${url}: no answer (${asFace96Error(error, code).message}).`, { cause: error });
  }
  if (!response.ok) {
    throw new Face96Error(code, `Could not fetch ${url}: the server answered ${response.status} ${response.statusText}`.trim() + '.');
  }
  // With a content encoding the length counts compressed bytes, while the reader sees decoded ones.
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
