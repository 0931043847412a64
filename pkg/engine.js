// The detector proper: wasm + weights + crop. The worker runs it, and so does the main thread where there is no worker.
import { Detector } from './dist/face96.js';
import { Cropper, toFrame } from './crop.js';
import { Face96Error } from './errors.js';
import { fetchBytes, loadWasm } from './wasm.js';

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./wasm.js').Progress} Progress */

/**
 * What the weights file says of itself.
 * @typedef {object} NetInfo
 * @property {string} net name of the architecture
 * @property {string} version of the weights
 * @property {number} inputSize side of the net's square input, in pixels
 * @property {boolean} presence whether the net was trained to tell a face from none
 * @property {{ keypoints: string[], swap: number[], edges: [number, number][] }} schema names of the keypoints (left and
 *   right are the subject's), index of each one's mirror partner, and pairs to join with a line
 */

/** @typedef {{ name: string, x: number, y: number, confidence: number }} Keypoint x, y in frame pixels; confidence 0..1 */
/** @typedef {{ score: number, box: Box, keypoints: Keypoint[] }} Face */

/**
 * Milliseconds.
 * @typedef {object} Timings
 * @property {number} crop drawing the box to the net's input and reading it back
 * @property {number} net the net itself, with its preprocessing
 */

export class Engine {
  /**
   * @param {Detector} detector
   * @param {NetInfo} info
   */
  constructor(detector, info) {
    this.detector = detector;
    this.info = info;
    this.cropper = new Cropper(info.inputSize);
  }

  /**
   * @param {{ wasmUrl: string, weightsUrl: string, onProgress?: (p: Progress) => void, signal?: AbortSignal }} options
   * @returns {Promise<Engine>}
   */
  static async load({ wasmUrl, weightsUrl, onProgress, signal }) {
    // Both at once: neither needs the other to arrive.
    const [, weights] = await Promise.all([
      loadWasm(wasmUrl, onProgress),
      fetchBytes(weightsUrl, 'weights', onProgress, signal),
    ]);
    try {
      const detector = new Detector(weights);
      return new Engine(detector, detector.info());
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new Face96Error('weights-invalid', `${weightsUrl} cannot be used: ${why}`, { cause: error });
    }
  }

  /**
   * @param {CanvasImageSource} source
   * @param {Box} box
   * @returns {{ face: Face, timings: Timings }}
   */
  detect(source, box) {
    const start = performance.now();
    const rgba = this.cropper.crop(source, box);
    const cropped = performance.now();
    const flat = this.detector.detect(rgba);
    const end = performance.now();
    const { inputSize, schema } = this.info;
    const keypoints = schema.keypoints.map((name, k) => {
      const [x, y] = toFrame(box, inputSize, flat[1 + 3 * k], flat[2 + 3 * k]);
      return { name, x, y, confidence: flat[3 + 3 * k] };
    });
    return { face: { score: flat[0], box, keypoints }, timings: { crop: cropped - start, net: end - cropped } };
  }

  /** Gives the wasm memory back. */
  free() {
    this.detector.free();
  }
}
