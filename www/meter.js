// Frame rate and latency of a run, and their small chart.
import { context2d } from './dom.js';

/** Number of frames in the chart and in the percentiles. */
const SPAN = 120;
/** The chart's height in ms when everything is quick: half of a frame's time at 30 a second. */
const LOW = 1000 / 60;

export class Meter {
  /** The last frames, oldest first. @type {{ now: number, total: number, net: number }[]} */
  #frames = [];
  /** Frames that the source showed but nobody took. */
  dropped = 0;

  /** @param {number} total ms @param {number} net the nets' part of it @param {number} skipped frames before this one */
  add(total, net, skipped) {
    this.#frames.push({ now: performance.now(), total, net });
    if (this.#frames.length > SPAN) this.#frames.shift();
    this.dropped += skipped;
  }

  reset() {
    this.#frames = [];
    this.dropped = 0;
  }

  /** Frames per second over the last second; null before there are two. */
  get rate() {
    const now = performance.now();
    const recent = this.#frames.filter((frame) => frame.now > now - 1000);
    if (recent.length < 2) return null;
    return (recent.length - 1) / ((recent[recent.length - 1].now - recent[0].now) / 1000);
  }

  /** @param {'total' | 'net'} what @param {number} share 0.5 for the median @returns {number | null} ms */
  percentile(what, share) {
    if (!this.#frames.length) return null;
    const sorted = this.#frames.map((frame) => frame[what]).sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  }

  /** One bar per frame, the newest on the right: the nets' part solid, the rest pale. @param {HTMLCanvasElement} canvas */
  draw(canvas) {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = context2d(canvas);
    const colour = getComputedStyle(canvas).color;
    const top = Math.max(LOW, 1.25 * (this.percentile('total', 0.95) ?? 0));
    const step = width / SPAN;
    context.clearRect(0, 0, width, height);
    context.fillStyle = colour;
    this.#frames.forEach(({ total, net }, n) => {
      const x = width - (this.#frames.length - n) * step;
      for (const [ms, alpha] of [
        [total, 0.35],
        [net, 1],
      ]) {
        const bar = Math.min(1, ms / top) * height;
        context.globalAlpha = alpha;
        context.fillRect(x, height - bar, Math.max(1, step - ratio * 0.5), bar);
      }
    });
    context.globalAlpha = 1;
  }
}
