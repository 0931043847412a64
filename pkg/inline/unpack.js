/**
 * @param {string} packed base64 of deflated bytes
 * @returns {() => Promise<Uint8Array>} the bytes, the same object at each call
 */
export function unpack(packed) {
  /** @type {Promise<Uint8Array> | null} */
  let bytes = null;
  return () =>
    (bytes ??= (async () => {
      if (typeof DecompressionStream !== 'function')
        throw new Error('This browser cannot unpack the files of the package; versions from 2023 on can.');
      const deflated = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
      const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
      return new Uint8Array(await new Response(stream).arrayBuffer());
    })());
}
