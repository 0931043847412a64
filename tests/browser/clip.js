// Makes camera clips: concatenated JPEGs of 640x480, as Chromium's fake camera plays them. Each frame carries its number
// in its top row as blocks of white (1) and black (0), so that a result can be matched to its labels.
import { writeFileSync } from 'node:fs';

/** @typedef {{ x: number, y: number }} Point */

/** Runs in the page: defines what the functions below and the reader of the clip need there. */
function installClipTools() {
  const [width, height, bits, block] = [640, 480, 10, 24];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  globalThis.clip = {
    width,
    height,
    /**
     * Draws a picture so that `box` of it fills the guide square; returns the JPEG and the points in frame pixels.
     * @param {CanvasImageSource} picture
     */
    async frame(number, picture, box, points, guide) {
      context.resetTransform();
      context.fillStyle = '#777';
      context.fillRect(0, 0, width, height);
      context.imageSmoothingQuality = 'high';
      // Pixel (0, 0) has its centre at (0, 0), a canvas its corner: hence the halves.
      context.translate(guide.x + 0.5, guide.y + 0.5);
      context.rotate(-box.roll);
      context.scale(guide.size / box.size, guide.size / box.size);
      context.translate(-box.x - 0.5, -box.y - 0.5);
      context.drawImage(picture, 0, 0);
      const map = context.getTransform();
      context.resetTransform();
      for (let bit = 0; bit < bits; bit++) {
        context.fillStyle = (number >> bit) & 1 ? '#fff' : '#000';
        context.fillRect(bit * block, 0, block, block);
      }
      const blob = await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.95 });
      let text = '';
      for (const byte of new Uint8Array(await blob.arrayBuffer())) text += String.fromCharCode(byte);
      return {
        jpeg: btoa(text),
        points: points.map(({ x, y }) => {
          const p = map.transformPoint({ x: x + 0.5, y: y + 0.5 });
          return { x: p.x - 0.5, y: p.y - 0.5 };
        }),
      };
    },
    /** The number of the frame that a video shows. */
    read(video) {
      context.resetTransform();
      context.drawImage(video, 0, 0, bits * block, block, 0, 0, bits * block, block);
      const { data } = context.getImageData(0, block / 2, bits * block, 1);
      let number = 0;
      for (let bit = 0; bit < bits; bit++) number |= Number(data[(bit + 0.5) * block * 4] > 127) << bit;
      return number;
    },
  };
}

/**
 * Synthetic faces: several people, each at several moments.
 * @param {import('playwright-core').Page} page
 * @param {string} path of the clip to write
 * @returns {Promise<Point[][]>} the exact keypoints of each frame, in frame pixels
 */
export async function writeSyntheticClip(page, path) {
  await page.evaluate(installClipTools);
  const frames = await page.evaluate(async () => {
    const { guideBox } = await import('/pkg/index.js');
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const { width, height } = globalThis.clip;
    const frames = [];
    for (let seed = 1; seed <= 20; seed++) {
      const face = await createSyntheticFace({ seed, width, height });
      for (let moment = 0; moment < 5; moment++) {
        const seconds = moment * 0.7;
        const picture = await createImageBitmap(face.draw(seconds));
        const box = face.box(seconds);
        frames.push(
          await globalThis.clip.frame(frames.length, picture, box, face.keypoints(seconds), guideBox(width, height)),
        );
      }
      face.close();
    }
    return frames;
  });
  writeFileSync(path, Buffer.concat(frames.map(({ jpeg }) => Buffer.from(jpeg, 'base64'))));
  return frames.map(({ points }) => points);
}

/**
 * One synthetic face that moves: three seconds there and back again, so that the clip can be repeated.
 * @param {import('playwright-core').Page} page
 * @param {string} path of the clip to write
 */
export async function writeMovingClip(page, path) {
  const jpegs = await page.evaluate(async () => {
    const { createSyntheticFace } = await import('/pkg/synthetic.js');
    const [width, height] = [640, 480];
    const face = await createSyntheticFace({ seed: 3, width, height });
    const canvas = new OffscreenCanvas(width, height);
    const jpegs = [];
    for (let i = 0; i < 90; i++) {
      canvas.getContext('2d').putImageData(face.draw(i / 30), 0, 0);
      const bytes = new Uint8Array(
        await (await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.9 })).arrayBuffer(),
      );
      jpegs.push(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
    }
    face.close();
    return jpegs.map(btoa);
  });
  const frames = jpegs.map((jpeg) => Buffer.from(jpeg, 'base64'));
  writeFileSync(path, Buffer.concat([...frames, ...frames.slice(1, -1).reverse()]));
}

/**
 * @param {import('playwright-core').Page} page
 * @param {string} path of the clip to write
 * @param {{ jpeg: string, points: Point[] }[]} crops 160x160 crops in the shared format, base64
 * @returns {Promise<Point[][]>} the labels of each frame, in frame pixels
 */
export async function writeCropClip(page, path, crops) {
  await page.evaluate(installClipTools);
  const frames = await page.evaluate(async (crops) => {
    const { guideBox } = await import('/pkg/index.js');
    const { width, height } = globalThis.clip;
    // Crop px 30 is pixel 0 of the 96 frame and 100 px are 96 of it: the middle, 47.5, lies at 30 + 47.5 / 0.96.
    const middle = 30 + 47.5 / 0.96;
    const box = { x: middle, y: middle, size: 100, roll: 0 };
    const frames = [];
    for (const { jpeg, points } of crops) {
      const bytes = Uint8Array.from(atob(jpeg), (c) => c.charCodeAt(0));
      const picture = await createImageBitmap(new Blob([bytes], { type: 'image/jpeg' }));
      frames.push(await globalThis.clip.frame(frames.length, picture, box, points, guideBox(width, height)));
    }
    return frames;
  }, crops);
  writeFileSync(path, Buffer.concat(frames.map(({ jpeg }) => Buffer.from(jpeg, 'base64'))));
  return frames.map(({ points }) => points);
}

/**
 * Plays the camera into a detector for one round of the clip or more, until every frame was met or time is up.
 * @param {import('playwright-core').Page} page
 * @param {Point[][]} labels
 * @returns {Promise<{ frame: number, error: number | null }[]>} for each frame that was met: its mean keypoint error in
 *   pixels of the 96 crop, or null where no face was found
 */
export async function measureCamera(page, labels) {
  await page.evaluate(installClipTools);
  return page.evaluate(async (labels) => {
    const { createDetector } = await import('/pkg/index.js');
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
    const video = document.createElement('video');
    video.muted = true;
    video.srcObject = stream;
    await video.play();
    // Every frame may show another person: what was learnt from the one before is of no use.
    const detector = await createDetector({ smoothing: false });
    const met = new Map();
    const end = performance.now() + 3 * (labels.length / 30) * 1000 + 5000;
    while (performance.now() < end && met.size < labels.length) {
      await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
      const frame = globalThis.clip.read(video);
      const promise = detector.detect(video);
      // The video may step on between the two looks at it; such a frame is left to the clip's next round.
      const same = globalThis.clip.read(video) === frame;
      const { faces } = await promise;
      if (!same || !labels[frame] || met.has(frame)) continue;
      if (!faces.length) {
        met.set(frame, null);
        continue;
      }
      const [{ box, keypoints }] = faces;
      const distances = keypoints.map((p, k) => Math.hypot(p.x - labels[frame][k].x, p.y - labels[frame][k].y));
      met.set(frame, (distances.reduce((a, b) => a + b) / distances.length) * (detector.info.inputSize / box.size));
    }
    for (const track of stream.getTracks()) track.stop();
    detector.close();
    return [...met].map(([frame, error]) => ({ frame, error }));
  }, labels);
}
