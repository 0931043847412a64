// The service worker: keeps every file of the page, so that it opens without a network.
// offline-files.js, written by tools/offline-files.js at each build, lists the files with the hash of their bytes. A change of
// any file changes that list, and with it this worker: the browser then installs a new one, which waits until the
// visitor asks for it or all windows of the old version are closed. No page ever gets files of two versions.
importScripts('./offline-files.js');

/** @type {ServiceWorkerGlobalScope & { OFFLINE_FILES: Record<string, string>, OFFLINE_LATER: Record<string, string>,
 *   OFFLINE_WASM: string[], RELAXED_SIMD_PROBE: number[] }} */
const worker = /** @type {any} */ (self);
/** Of the two builds, only the one that this browser runs is kept; the choice is that of pkg/simd.js. */
const other = worker.OFFLINE_WASM[WebAssembly.validate(new Uint8Array(worker.RELAXED_SIMD_PROBE)) ? 0 : 1];
const files = Object.entries(worker.OFFLINE_FILES).filter(([path]) => path !== other);
const CACHE = 'face96';

/** A file's key in the cache contains its hash: two versions coexist, and unchanged files are fetched once. */
const keysOf = (/** @type {[string, string][]} */ files) =>
  new Map(
    files.map(([path, hash]) => {
      const url = new URL(path, worker.registration.scope);
      return [url.href, `${url.href}?${hash}`];
    }),
  );
const keys = keysOf(files);
/** Files that are kept once they have been requested. */
const later = keysOf(Object.entries(worker.OFFLINE_LATER));

worker.addEventListener('install', (event) => event.waitUntil(install()));
worker.addEventListener('activate', (event) => event.waitUntil(forgetOthers()));
worker.addEventListener('message', ({ data }) => data === 'activate' && worker.skipWaiting());
worker.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  url.search = url.hash = '';
  if (event.request.method !== 'GET') return;
  const [first, chosen] = [keys.get(url.href), later.get(url.href)];
  if (first) event.respondWith(answer(first, event.request));
  else if (chosen) event.respondWith(answerAndKeep(chosen, url.href, event));
});

async function install() {
  const cache = await caches.open(CACHE);
  await Promise.all(
    Array.from(keys, async ([url, key]) => {
      if (await cache.match(key)) return;
      const response = await fetch(url, { cache: 'no-cache' });
      if (!response.ok) throw new Error(`${url}: the server answered ${response.status}`);
      // An upload is in progress: the browser tries again at the next visit.
      if (!(await fits(response, key))) throw new Error(`${url}: not the file that this version was built with`);
      await cache.put(key, response);
    }),
  );
}

/** Whether a response has the bytes that a key names. @param {Response} response @param {string} key */
async function fits(response, key) {
  const digest = await crypto.subtle.digest('SHA-256', await response.clone().arrayBuffer());
  const hash = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return key.endsWith(`?${hash}`);
}

async function forgetOthers() {
  const cache = await caches.open(CACHE);
  const mine = new Set([...keys.values(), ...later.values()]);
  for (const { url } of await cache.keys()) if (!mine.has(url)) await cache.delete(url);
}

/** @param {string} key @param {Request} request */
async function answer(key, request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(key)) ?? fetch(request);
}

/** @param {string} key @param {string} url @param {ExtendableEvent} event stays alive until the file is kept */
async function answerAndKeep(key, url, event) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(key);
  if (kept) return kept;
  const response = await fetch(url, { cache: 'no-cache' });
  const copy = response.clone();
  // The page reads the response as it arrives; keeping it waits for its end.
  if (response.ok) event.waitUntil(fits(copy, key).then((good) => (good ? cache.put(key, copy) : undefined)));
  return response;
}
