// The only error class of the package. Its code is for programs, its message is a sentence for people.

/**
 * | code | what happened |
 * |---|---|
 * | `bad-option` | an option or argument has a value or type that this version does not understand |
 * | `weights-fetch` | the weights did not arrive (the message names the address and the status) |
 * | `weights-invalid` | the weights arrived but are truncated, damaged or made for something else |
 * | `wasm-fetch` | the wasm did not arrive (the message names the address and the status) |
 * | `wasm-compile` | the wasm arrived but was refused: by a content security policy, or because it is damaged or something else |
 * | `wasm-unsupported` | the browser has no WebAssembly, none with SIMD, or can unpack none of the two wasm files |
 * | `empty-frame` | the source has no pixels yet, for instance a video before its first frame |
 * | `bad-frame` | the source cannot be read, for instance an image that is broken or from another origin |
 * | `canvas-blocked` | the browser returns other pixels than were drawn, as a guard against fingerprinting |
 * | `superseded` | a newer frame of the stream or `reset()` replaced this one before its turn came |
 * | `aborted` | the `signal` was aborted |
 * | `closed` | `close()` was called |
 * | `worker-crashed` | the worker died; the next `detect()` starts another, once |
 * | `wasm-crashed` | the same without a worker: the wasm trapped; the next `detect()` starts it again, once |
 * | `camera-denied` | the user or a policy refused the camera |
 * | `camera-missing` | there is no camera |
 * | `camera-in-use` | another program holds the camera |
 * | `camera-unplugged` | the camera went away while it was running |
 * | `camera-size` | the camera does not have the requested picture size, or is not the requested device |
 * | `camera-insecure` | the page is neither https nor localhost |
 * | `camera-unsupported` | the browser gives pages no access to cameras |
 * | `camera-failed` | the camera did not start for another reason, which the message names |
 * | `internal` | a fault of this package; please report it |
 *
 * @typedef {'bad-option' | 'weights-fetch' | 'weights-invalid' | 'wasm-fetch' | 'wasm-compile'
 *   | 'wasm-unsupported' | 'empty-frame' | 'bad-frame' | 'canvas-blocked' | 'superseded' | 'aborted' | 'closed' | 'worker-crashed' | 'wasm-crashed'
 *   | 'camera-denied' | 'camera-missing' | 'camera-in-use' | 'camera-unplugged' | 'camera-size' | 'camera-insecure'
 *   | 'camera-unsupported' | 'camera-failed' | 'internal'} ErrorCode
 */

/** The error that every function of this package throws or rejects with. */
export class Face96Error extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} message one sentence
   * @param {{ cause?: unknown }} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = 'Face96Error';
    /** @type {ErrorCode} */
    this.code = code;
  }
}

/**
 * Returns a Face96Error unchanged and wraps anything else as `code`.
 * @param {unknown} error
 * @param {ErrorCode} code
 * @returns {Face96Error}
 */
export function asFace96Error(error, code) {
  if (error instanceof Face96Error) return error;
  return new Face96Error(code, error instanceof Error ? error.message : String(error), { cause: error });
}
