// Where the engine runs: in a worker, or on the calling thread. Detectors with the same files get the same backend, each with
// a stream of its own, so that two detectors on a page load everything once and share one worker.
import { OTHER_ORIGIN } from './crop.js';
import { Engine } from './engine.js';
import { Face96Error, asFace96Error } from './errors.js';
import { own } from './files.js';
import { release } from './source.js';
import { giveUpWasm, wasmInstance } from './wasm.js';

/** @typedef {import('./files.js').Files} Files */
/** @typedef {import('./source.js').Frame} Frame */
/** @typedef {import('./engine.js').Kind} Kind */
/** @typedef {import('./engine.js').NetInfo} NetInfo */
/** @typedef {import('./engine.js').Result} Result */
/** @typedef {import('./engine.js').Settings} Settings */
/** @typedef {import('./wasm.js').Progress} Progress */

/**
 * @typedef {object} Backend
 * @property {'worker' | 'main'} kind
 * @property {NetInfo} info
 * @property {boolean} dead whether a new backend is needed
 * @property {(stream: number, settings: Settings) => void} configure opens the stream if it is new
 * @property {(stream: number) => void} reset
 * @property {(stream: number) => void} recalibrate
 * @property {(stream: number) => void} shut
 * @property {(stream: number, frame: Frame, kind: Kind, crops: boolean) => Promise<Result>} detect takes ownership
 *   of the frame
 * @property {() => void} close ends it at once; pending calls never settle
 */

/**
 * A backend, loaded or loading, and its users.
 * @typedef {{ backend: Promise<Backend>, users: number, listeners: Set<(p: Progress) => void>, controller: AbortController,
 *   forget: () => void }} Shared
 */

/** @type {Map<string, Shared>} */
const inUse = new Map();
let streams = 0;

/** Numbers for files given as bytes: the same array has the same number. @type {WeakMap<Uint8Array, number>} */
const numbers = new WeakMap();
let numbered = 0;
/** @param {import('./files.js').Source | null} source */
function nameOf(source) {
  if (typeof source === 'string' || source === null) return source;
  const number = numbers.get(source) ?? ++numbered;
  numbers.set(source, number);
  return number;
}

/** One user's stream on a backend. */
export class Stream {
  #backend;
  #leave;
  #id = ++streams;

  /**
   * @param {Backend} backend
   * @param {Settings} settings
   * @param {() => void} leave
   */
  constructor(backend, settings, leave) {
    this.#backend = backend;
    this.#leave = leave;
    backend.configure(this.#id, settings);
  }

  get kind() {
    return this.#backend.kind;
  }

  get info() {
    return this.#backend.info;
  }

  get dead() {
    return this.#backend.dead;
  }

  /** @param {Settings} settings */
  configure(settings) {
    this.#backend.configure(this.#id, settings);
  }

  reset() {
    this.#backend.reset(this.#id);
  }

  recalibrate() {
    this.#backend.recalibrate(this.#id);
  }

  /** @param {Frame} frame @param {Kind} kind @param {boolean} crops */
  detect(frame, kind, crops) {
    return this.#backend.detect(this.#id, frame, kind, crops);
  }

  /** The backend ends with its last user. */
  close() {
    this.#backend.shut(this.#id);
    this.#leave();
  }
}

/**
 * @param {boolean} worker whether to try a worker first
 * @param {Files} files
 * @param {Settings} settings
 * @param {{ onProgress?: (p: Progress) => void, signal?: AbortSignal }} options
 * @returns {Promise<Stream>}
 */
export async function openStream(worker, files, settings, { onProgress, signal }) {
  const key = JSON.stringify([worker, ...[files.wasm, files.weights, files.finder].map(nameOf)]);
  const shared = inUse.get(key) ?? share(key, worker, files);
  shared.users++;
  const leave = () => {
    if (--shared.users > 0) return;
    shared.controller.abort();
    shared.backend.then(
      (backend) => backend.close(),
      () => {},
    );
  };
  if (onProgress) shared.listeners.add(onProgress);
  try {
    const backend = await unlessAborted(shared.backend, signal);
    if (!backend.dead) return new Stream(backend, settings, leave);
  } catch (error) {
    leave();
    throw error;
  } finally {
    if (onProgress) shared.listeners.delete(onProgress);
  }
  // It died while others used it; they will ask for a new one too.
  shared.forget();
  leave();
  return openStream(worker, files, settings, { onProgress, signal });
}

/**
 * @param {string} key
 * @param {boolean} worker
 * @param {Files} files
 * @returns {Shared}
 */
function share(key, worker, files) {
  const controller = new AbortController();
  /** @type {Shared['listeners']} */
  const listeners = new Set();
  const tell = (/** @type {Progress} */ progress) => listeners.forEach((listener) => listener(progress));
  const forget = () => {
    if (inUse.get(key) === shared) inUse.delete(key);
  };
  /** @type {Shared} */
  const shared = {
    backend: startBackend(worker, files, tell, controller.signal),
    users: 0,
    listeners,
    controller,
    forget,
  };
  inUse.set(key, shared);
  controller.signal.addEventListener('abort', forget);
  shared.backend.catch(forget);
  return shared;
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new Face96Error('aborted', 'Loading was aborted.'));
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal?.removeEventListener('abort', abort));
  });
}

/**
 * @param {boolean} worker
 * @param {Files} files
 * @param {(p: Progress) => void} onProgress
 * @param {AbortSignal} signal
 * @returns {Promise<Backend>}
 */
async function startBackend(worker, files, onProgress, signal) {
  const link = worker ? await startWorker(signal) : null;
  return link ? loadInWorker(link, files, onProgress, signal) : loadHere(files, onProgress, signal);
}

/**
 * @param {Files} files
 * @param {(p: Progress) => void} onProgress
 * @param {AbortSignal} signal
 * @returns {Promise<Backend>}
 */
async function loadHere(files, onProgress, signal) {
  const engine = await Engine.load(files, onProgress, signal);
  const instance = wasmInstance();
  let freed = false;
  // The engine of other files may have trapped: they share the instance.
  const gone = () => freed || instance !== wasmInstance();
  return {
    kind: 'main',
    info: engine.info,
    get dead() {
      return !freed && gone();
    },
    configure: (stream, settings) => gone() || engine.configure(stream, settings),
    reset: (stream) => gone() || engine.reset(stream),
    recalibrate: (stream) => gone() || engine.recalibrate(stream),
    shut: (stream) => gone() || engine.shut(stream),
    async detect(stream, frame, kind, crops) {
      try {
        return await engine.detect(stream, frame, kind, crops);
      } catch (error) {
        if (freed || !(error instanceof WebAssembly.RuntimeError || gone())) throw error;
        if (!gone()) giveUpWasm();
        const why = error instanceof Error ? error.message : String(error);
        throw new Face96Error('wasm-crashed', `The wasm stopped: ${why}.`, { cause: error });
      } finally {
        release(frame);
      }
    },
    close() {
      if (!gone()) engine.free();
      freed = true;
    },
  };
}

/**
 * Starts a worker; null if that is impossible (no module workers, a policy against them, no canvas in them), so that the caller
 * falls back.
 * @param {AbortSignal} signal
 * @returns {Promise<Worker | null>}
 */
async function startWorker(signal) {
  for (const start of own.workers) {
    const worker = await capable(start, signal);
    if (worker) return worker;
  }
  return null;
}

/**
 * @param {() => Worker} start
 * @param {AbortSignal} signal
 * @returns {Promise<Worker | null>}
 */
async function capable(start, signal) {
  /** @type {Worker} */
  let worker;
  try {
    worker = start();
  } catch {
    return null;
  }
  const works = await new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data.type === 'up' && data.capable);
    worker.onerror = (event) => {
      event.preventDefault();
      resolve(false);
    };
    signal.addEventListener('abort', () => resolve(false), { once: true });
  });
  if (!works) worker.terminate();
  if (signal.aborted) throw new Face96Error('aborted', 'Loading was aborted.');
  return works ? worker : null;
}

/**
 * @param {Worker} worker
 * @param {Files} files
 * @param {(p: Progress) => void} onProgress
 * @param {AbortSignal} signal
 * @returns {Promise<Backend>}
 */
async function loadInWorker(worker, files, onProgress, signal) {
  /** Pending requests. @type {Map<number, { resolve: (value: any) => void, reject: (error: Face96Error) => void }>} */
  const requests = new Map();
  let last = 0;
  /** @param {Face96Error} error */
  const stop = (error) => {
    worker.terminate();
    for (const { reject } of requests.values()) reject(error);
    requests.clear();
  };
  /** @param {string} why */
  const crash = (why) => {
    backend.dead = true;
    stop(new Face96Error('worker-crashed', `The worker stopped: ${why}.`));
  };
  worker.onmessage = ({ data }) => {
    /** @type {import('./worker.js').Reply} */
    const reply = data;
    if (reply.type === 'progress') onProgress(reply.progress);
    else if (reply.type === 'crash') crash(reply.message);
    else if (reply.type === 'done' || reply.type === 'error') {
      const request = requests.get(reply.id);
      requests.delete(reply.id);
      if (reply.type === 'done') request?.resolve(reply.result);
      else request?.reject(new Face96Error(reply.code, reply.message));
    }
  };
  worker.onerror = (event) => {
    event.preventDefault();
    crash(event.message || 'no reason given');
  };
  worker.onmessageerror = () => crash('a message could not be read');

  /** @param {import('./worker.js').Request} message @param {Transferable[]} [transfer] */
  const post = (message, transfer = []) => worker.postMessage(message, transfer);
  /** @param {any} message @param {Transferable[]} [transfer] @returns {Promise<any>} */
  const ask = (message, transfer) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      post({ ...message, id }, transfer);
      requests.set(id, { resolve, reject });
    });

  /** @type {Backend} */
  const backend = {
    kind: 'worker',
    info: /** @type {any} */ (null),
    dead: false,
    configure: (stream, settings) => post({ type: 'configure', stream, settings }),
    reset: (stream) => post({ type: 'reset', stream }),
    recalibrate: (stream) => post({ type: 'recalibrate', stream }),
    shut: (stream) => post({ type: 'shut', stream }),
    async detect(stream, frame, kind, crops) {
      try {
        return await ask({ type: 'detect', stream, frame, kind, crops }, ['luma' in frame ? frame.luma.buffer : frame]);
      } catch (error) {
        release(frame);
        // The only reason why an open bitmap cannot be transferred.
        if (error instanceof DOMException && error.name === 'DataCloneError')
          throw new Face96Error('bad-frame', OTHER_ORIGIN, { cause: error });
        throw error;
      }
    },
    close: () => stop(new Face96Error('closed', 'The detector was closed.')),
  };
  const abort = () => stop(new Face96Error('aborted', 'Loading was aborted.'));
  signal.addEventListener('abort', abort);
  try {
    backend.info = await ask({ type: 'load', files });
    return backend;
  } catch (error) {
    worker.terminate();
    throw asFace96Error(error, 'internal');
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
