// What wasm says of faces, as objects. The layout of its numbers is documented at `Tracker.faces` in src/track.rs.

/** @typedef {import('./crop.js').Box} Box */
/** @typedef {import('./engine.js').Crop} Crop */
/** @typedef {import('./files.js').Bytes} Bytes */

/**
 * @typedef {object} Keypoint
 * @property {string} name of the schema; left and right are the subject's
 * @property {number} x in frame pixels
 * @property {number} y in frame pixels
 * @property {number} confidence 0..1: how sure the net is of its place
 */

/**
 * Where the head points, in radians. All 0 where it looks straight at the camera.
 * @typedef {object} Pose
 * @property {number} yaw positive: turned to the subject's left (the right of a picture that is not mirrored)
 * @property {number} pitch positive: looking up
 * @property {number} roll positive: leaning clockwise as seen in the frame
 */

/**
 * @typedef {object} Face
 * @property {number} score 0..1: how sure the net is that this is a face; 1 where it cannot tell (`info.presence`)
 * @property {Box} box the square around the face, as the net sees it
 * @property {Keypoint[]} keypoints in the order of `info.schema.keypoints`
 * @property {Pose | null} pose null where the schema lacks the points for it (the nose tip and five others of Kaggle's 15)
 * @property {number | null} mouthOpen distance of the lips' middles over the distance of the outer eye corners as seen from
 *   the front: about 0.2 for a closed mouth, 0.35 and more for an open one; null where `pose` or a lip is missing
 * @property {number | null} trackId the same number for the same face from frame to frame, from 1 up; null for stills and
 *   given boxes
 * @property {Bytes} [crop] where it was asked for: what the net looked at, `info.inputSize` rows of as many grey bytes. It is
 *   the square in which the face was expected, so that a face which moves is not quite in its middle
 */

/** Numbers before the keypoints of a face. */
export const HEADER = 10;

/**
 * @param {Float32Array} flat
 * @param {string[]} names of the keypoints
 * @param {Crop[]} crops in the order in which they were looked at
 * @returns {Face[]}
 */
export function facesOf(flat, names, crops) {
  /** @type {Face[]} */
  const faces = [];
  const length = HEADER + 3 * names.length;
  for (let at = 0; at + length <= flat.length; at += length) {
    const [trackId, score, x, y, size, roll, yaw, pitch, headRoll, mouth] = flat.subarray(at, at + HEADER);
    faces.push({
      score,
      box: { x, y, size, roll },
      keypoints: names.map((name, k) => {
        const p = at + HEADER + 3 * k;
        return { name, x: flat[p], y: flat[p + 1], confidence: flat[p + 2] };
      }),
      pose: Number.isNaN(yaw) ? null : { yaw, pitch, roll: headRoll },
      mouthOpen: Number.isNaN(mouth) ? null : mouth,
      trackId: trackId || null,
      ...(crops.length ? { crop: nearest(crops, x, y, size).pixels } : {}),
    });
  }
  return faces;
}

/**
 * A face is looked at in one crop, or in a second one where the first was off: the last of equals.
 * @param {Crop[]} crops at least one
 * @param {number} x
 * @param {number} y
 * @param {number} size
 * @returns {Crop}
 */
function nearest(crops, x, y, size) {
  const far = (/** @type {Crop} */ { box }) => Math.hypot(box.x - x, box.y - y) / size + Math.abs(Math.log(box.size / size));
  return crops.reduce((best, crop) => (far(crop) <= far(best) ? crop : best));
}
