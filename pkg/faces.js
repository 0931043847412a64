// Turns wasm's numbers for faces into objects. `Tracker.faces` in src/track documents their layout.

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./engine.js').Crop} Crop */
/** @typedef {import('./files.js').Bytes} Bytes */

/**
 * @typedef {object} Keypoint
 * @property {string} name from the schema; left and right are the subject's
 * @property {number} x in frame pixels
 * @property {number} y in frame pixels
 * @property {number} confidence 0..1: how sure the net is of the keypoint's place
 */

/**
 * Position and orientation of the head. Angles are in radians, all 0 if it looks straight at the camera.
 * @typedef {object} Pose
 * @property {number} yaw positive: turned to the subject's left (the right of a picture that is not mirrored)
 * @property {number} pitch positive: looking up
 * @property {number} roll positive: leaning clockwise as seen in the frame
 * @property {number[]} matrix 4x4, in the column order of CSS, WebGL and `DOMMatrix`: from the head to pixels of the frame. The
 *   head's origin is midway between the outer eye corners; its axes go towards the subject's left, down and out of the face, and
 *   their unit is the width of the face. The frame's axes go right, down and towards the viewer. There is no perspective in it
 * @property {number} distance from the camera to the face, in widths of the face (about 14 cm each), for a camera with a field of view of
 *   53 degrees along the frame's longer side, about that of most webcams; for a field of a degrees, multiply by 0.5 / tan(a / 2)
 */

/**
 * A part of the face relative to the person's own rest, which is learnt from the last 20 seconds, see
 * {@link import('./index.js').FaceDetector#recalibrate}. In a still picture, rest is that of a usual face.
 * @typedef {object} Eye
 * @property {number} open 0 is closed, 1 is as open as at rest or wider
 * @property {number} confidence 0..1: lower if the points are unsure, the eye is turned away or its rest is not known yet
 */

/**
 * @typedef {object} Mouth
 * @property {number | null} open 0 is closed, 1 is as open as in a yawn; null if a lip is missing
 * @property {number | null} wide 0 is puckered, 0.5 is rest, 1 is a broad smile; null if a corner is missing
 * @property {number} confidence 0..1
 */

/**
 * @typedef {object} Brow
 * @property {number} raise 0 is rest or lower, 1 is fully raised
 * @property {number} confidence 0..1
 */

/**
 * An event in a frame of a stream. A `blink` of both eyes is reported when they open again, within 0.7 seconds. A `nod` is a quick
 * swing down and up, a `shake` a quick turn to one side, back and again.
 * @typedef {'blink' | 'mouthopen' | 'mouthclose' | 'nod' | 'shake'} FaceEvent
 */

/**
 * @typedef {object} Face
 * @property {number} score 0..1: how sure the net is that this is a face; 1 if it has no presence output (`info.presence`)
 * @property {Box} box the square around the face, as the net sees it
 * @property {Keypoint[]} keypoints in the order of `info.schema.keypoints`
 * @property {Pose | null} pose null if the schema lacks the points for it (the nose tip and five others of Kaggle's 15)
 * @property {number | null} mouthOpen distance between the middles of the lips over the distance between the outer eye corners, as seen from
 *   the front: about 0.2 for a closed mouth, 0.35 and more for an open one; null if `pose` or a lip is missing
 * @property {{ left: Eye | null, right: Eye | null }} eyes null if the schema lacks points on the lids, as Kaggle's 15 do
 * @property {Mouth | null} mouth null if `pose` or all of its points are missing
 * @property {{ left: Brow | null, right: Brow | null }} brows null if `pose`, an end of the brow or a corner of the eye is missing
 * @property {FaceEvent[]} events the events of this frame; always empty for stills and given boxes
 * @property {number | null} trackId the same number for the same face from frame to frame, counted from 1; null for stills and
 *   given boxes
 * @property {Bytes} [crop] if requested: the crop that the net saw, `info.inputSize` rows of as many grey bytes. It is
 *   the square in which the face was expected, so a moving face is not quite in its middle
 */

/** Number of values before a face's keypoints. */
const HEADER = 26;

/** In the order of their bits. @type {FaceEvent[]} */
const EVENTS = ['blink', 'mouthopen', 'mouthclose', 'nod', 'shake'];

/**
 * @param {Float32Array} flat
 * @param {string[]} names of the keypoints
 * @param {Crop[]} crops in the order in which the net saw them
 * @param {{ width: number, height: number }} frame its size
 * @returns {Face[]}
 */
export function facesOf(flat, names, crops, frame) {
  /** @type {Face[]} */
  const faces = [];
  const length = HEADER + 3 * names.length;
  for (let at = 0; at + length <= flat.length; at += length) {
    const [trackId, score, x, y, size, roll, yaw, pitch, headRoll, mouth, headX, headY, width, events, ...expression] =
      flat.subarray(at, at + HEADER);
    const [leftEye, rightEye, open, wide, leftBrow, rightBrow] = expression.flatMap((value, i) =>
      i % 2 ? [] : [{ value, confidence: expression[i + 1] }],
    );
    faces.push({
      score,
      box: { x, y, size, roll },
      keypoints: names.map((name, k) => {
        const p = at + HEADER + 3 * k;
        return { name, x: flat[p], y: flat[p + 1], confidence: flat[p + 2] };
      }),
      pose: Number.isNaN(yaw)
        ? null
        : {
            ...{ yaw, pitch, roll: headRoll },
            matrix: matrixOf(yaw, pitch, headRoll, headX, headY, width),
            // A field of view of 53 degrees is as wide as its distance.
            distance: Math.max(frame.width, frame.height) / width,
          },
      mouthOpen: known(mouth),
      eyes: { left: eyeOf(leftEye), right: eyeOf(rightEye) },
      mouth: known(open.value) === null && known(wide.value) === null ? null : mouthOf(open, wide),
      brows: { left: browOf(leftBrow), right: browOf(rightBrow) },
      events: EVENTS.filter((_, bit) => events & (1 << bit)),
      trackId: trackId || null,
      ...(crops.length ? { crop: nearest(crops, x, y, size).pixels } : {}),
    });
  }
  return faces;
}

/** @typedef {{ value: number, confidence: number }} Reading */

/** @param {number} value NaN if unknown @returns {number | null} */
const known = (value) => (Number.isNaN(value) ? null : value);

/** @param {Reading} reading @returns {Eye | null} */
const eyeOf = ({ value, confidence }) => (known(value) === null ? null : { open: value, confidence });

/** @param {Reading} reading @returns {Brow | null} */
const browOf = ({ value, confidence }) => (known(value) === null ? null : { raise: value, confidence });

/** @param {Reading} open @param {Reading} wide @returns {Mouth} */
function mouthOf(open, wide) {
  const both = [open, wide].filter(({ value }) => known(value) !== null);
  return {
    open: known(open.value),
    wide: known(wide.value),
    confidence: Math.min(...both.map(({ confidence }) => confidence)),
  };
}

/**
 * @param {number} yaw
 * @param {number} pitch
 * @param {number} roll
 * @param {number} x of the origin, in the frame
 * @param {number} y
 * @param {number} width of the face in pixels
 * @returns {number[]} see {@link Pose}; the rotation is `Pose::rotation` of src/track/head.rs
 */
function matrixOf(yaw, pitch, roll, x, y, width) {
  const [sy, cy, sp, cp, sr, cr] = [yaw, pitch, roll].flatMap((angle) => [Math.sin(angle), Math.cos(angle)]);
  const left = [cy * cr - sy * sp * sr, cy * sr + sy * sp * cr, -sy * cp];
  const down = [-cp * sr, cp * cr, sp];
  const ahead = [sy * cr + cy * sp * sr, sy * sr - cy * sp * cr, cy * cp];
  return [...[left, down, ahead].flatMap((axis) => [...axis.map((v) => v * width), 0]), x, y, 0, 1];
}

/**
 * A face whose first crop was off is looked at again in a second one; only the last one counts.
 * @param {Crop[]} crops at least one
 * @param {number} x
 * @param {number} y
 * @param {number} size
 * @returns {Crop}
 */
function nearest(crops, x, y, size) {
  const far = (/** @type {Crop} */ { box }) =>
    Math.hypot(box.x - x, box.y - y) / size + Math.abs(Math.log(box.size / size));
  return crops.reduce((best, crop) => (far(crop) <= far(best) ? crop : best));
}
