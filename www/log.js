// The keypoints of the last run, kept as numbers in one flat array, to be saved as JSON or CSV.

/** @typedef {import('./pkg/index.js').Face} Face */

/** Number of rows kept, one per face and frame, the newest: 11 minutes of one face at 30 frames a second, 9 MB. */
const CAPACITY = 20_000;
/** Columns before the keypoints. Lengths are in pixels of the frame, angles in radians; unknown values are empty. */
const FIXED = [
  'timestamp_ms',
  'face',
  'score',
  'box_x',
  'box_y',
  'box_size',
  'box_roll',
  'yaw',
  'pitch',
  'roll',
  'mouth_open',
];

export class KeypointLog {
  /** Rows one after the other; once it is full, the oldest row is overwritten. */
  #numbers = new Float64Array(0);
  /** Number of rows ever added. */
  #added = 0;
  /** @type {string[]} */
  #columns = [];
  #about = {};
  frames = 0;

  /**
   * Starts a new run.
   * @param {string[]} names of the keypoints
   * @param {Record<string, unknown>} about a description of the run, for the head of the JSON
   */
  start(names, about) {
    this.#columns = [...FIXED, ...names.flatMap((name) => [`${name}_x`, `${name}_y`, `${name}_confidence`])];
    this.#numbers = new Float64Array(0);
    this.#added = this.frames = 0;
    this.#about = about;
  }

  get rows() {
    return Math.min(this.#added, CAPACITY);
  }

  /** @param {number} timestamp in ms @param {Face[]} faces @param {number} scale pixels of the original per pixel of the faces */
  add(timestamp, faces, scale) {
    this.frames++;
    // The centre of a shrunk picture's first pixel lies in the middle of several pixels of the original.
    const at = (/** @type {number} */ v) => (v + 0.5) * scale - 0.5;
    for (const [n, { trackId, score, box, pose, mouthOpen, keypoints }] of faces.entries()) {
      const row = [timestamp, trackId ?? n + 1, score, at(box.x), at(box.y), box.size * scale, box.roll];
      row.push(pose?.yaw ?? NaN, pose?.pitch ?? NaN, pose?.roll ?? NaN, mouthOpen ?? NaN);
      for (const { x, y, confidence } of keypoints) row.push(at(x), at(y), confidence);
      const place = this.#added++ % CAPACITY;
      if ((place + 1) * row.length > this.#numbers.length) {
        const larger = new Float64Array(Math.min(CAPACITY, Math.max(64, 2 * place)) * row.length);
        larger.set(this.#numbers);
        this.#numbers = larger;
      }
      this.#numbers.set(row, place * row.length);
    }
  }

  /** Rows in order of time. */
  *#rows() {
    const width = this.#columns.length;
    const first = this.#added > CAPACITY ? this.#added % CAPACITY : 0;
    for (let i = 0; i < this.rows; i++) {
      const n = (first + i) % CAPACITY;
      // Four digits are a hundredth of the net's resolution, and a third of the file.
      yield Array.from(this.#numbers.subarray(n * width, (n + 1) * width), (value) => Number(value.toFixed(4)));
    }
  }

  /** @returns {string} a header and a row for each face in each frame */
  csv() {
    let text = this.#columns.join(',') + '\n';
    for (const row of this.#rows()) text += row.map((value) => (Number.isNaN(value) ? '' : value)).join(',') + '\n';
    return text;
  }

  /** @returns {string} the run, and under `faces` an object for each face in each frame */
  json() {
    const names = this.#columns
      .slice(FIXED.length)
      .filter((_, i) => i % 3 === 0)
      .map((name) => name.slice(0, -2));
    const faces = Array.from(this.#rows(), (row) => {
      const [timestamp, trackId, score, x, y, size, boxRoll, yaw, pitch, roll, mouthOpen] = row;
      const keypoints = names.map((name, k) => {
        const [px, py, confidence] = row.slice(FIXED.length + 3 * k);
        return { name, x: px, y: py, confidence };
      });
      return {
        timestamp,
        trackId,
        score,
        box: { x, y, size, roll: boxRoll },
        pose: { yaw, pitch, roll },
        mouthOpen,
        keypoints,
      };
    });
    return JSON.stringify({ ...this.#about, frames: this.frames, faces }, null, 1);
  }
}
