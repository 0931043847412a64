// The frames of a video or a canvas, one after the other. Importing this file does nothing.

/**
 * @typedef {object} FrameTime
 * @property {number} timestamp the frame's own time in milliseconds, as `detect` takes it
 * @property {number} skipped frames that were shown since the previous one but not taken
 */

/**
 * Yields new frames until the signal is aborted. Each is awaited only when it is requested, so a loop that takes longer than a frame
 * skips some and never lags behind. While the source's tab is hidden there are none, since nobody sees them.
 *
 *     for await (const { timestamp } of frames(video, { signal })) {
 *       const { faces } = await detector.detect(video, { timestamp });
 *     }
 * @param {HTMLVideoElement | HTMLCanvasElement} source
 * @param {{ signal?: AbortSignal }} [options]
 * @returns {AsyncGenerator<FrameTime, void, void>}
 */
export async function* frames(source, { signal } = {}) {
  let presented = 0;
  for (;;) {
    // The source's own window, because an element may have moved to another one.
    const owner = source.ownerDocument;
    while (owner.hidden && !signal?.aborted) await until(signal, (done) => listen(owner, 'visibilitychange', done));
    /** @type {FrameTime | undefined} */
    const frame = await until(signal, (done) => {
      if (!('requestVideoFrameCallback' in source)) {
        const { requestAnimationFrame, cancelAnimationFrame } = owner.defaultView ?? globalThis;
        const id = requestAnimationFrame((timestamp) => done({ timestamp, skipped: 0 }));
        return () => cancelAnimationFrame(id);
      }
      const id = source.requestVideoFrameCallback((now, { mediaTime, captureTime, presentedFrames }) => {
        const skipped = presented ? Math.max(0, presentedFrames - presented - 1) : 0;
        presented = presentedFrames;
        // In some browsers a camera's mediaTime stands still; captureTime, if there is one, is the camera's own clock.
        done({ timestamp: source.srcObject ? (captureTime ?? now) : mediaTime * 1000, skipped });
      });
      return () => source.cancelVideoFrameCallback(id);
    });
    if (signal?.aborted || !frame) return;
    yield frame;
  }
}

/**
 * The value that `start` passes to its callback; undefined if the signal comes first, which calls the function that `start` returned.
 * @template T
 * @param {AbortSignal | undefined} signal
 * @param {(done: (value?: T) => void) => () => void} start
 * @returns {Promise<T | undefined>}
 */
function until(signal, start) {
  return new Promise((resolve) => {
    const done = (/** @type {T | undefined} */ value) => {
      signal?.removeEventListener('abort', abort);
      resolve(value);
    };
    const abort = () => {
      stop();
      done(undefined);
    };
    const stop = start(done);
    if (signal?.aborted) abort();
    else signal?.addEventListener('abort', abort);
  });
}

/** @param {EventTarget} target @param {string} type @param {() => void} listener @returns {() => void} */
function listen(target, type, listener) {
  target.addEventListener(type, listener, { once: true });
  return () => target.removeEventListener(type, listener);
}
