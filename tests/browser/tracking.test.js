// Finding, following, losing and finding again, with the shipped nets in Chromium: drawn faces, and photographs where they are
// at hand.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readCsv, root, suite, test } from './harness.js';

/** Photographs with one face, evenly spaced over the validation rows of each source. */
const PER_SOURCE = 60;
const scenes = join(root, '../shared/data/scenes');

/** @type {import('playwright-core').Page} */
let page;
const shared = suite({
  async ready() {
    page = await shared.browser.newPage();
    await page.goto(`${shared.url}pkg/package.json`);
    await page.evaluate(async () => {
      const { createDetector } = await import('/pkg/index.js');
      const { createSyntheticFace } = await import('/pkg/synthetic.js');
      const faces = await Promise.all(
        [3, 7, 12, 21].map((seed) => createSyntheticFace({ seed, width: 320, height: 240 })),
      );
      const canvas = new OffscreenCanvas(640, 480);
      const context = canvas.getContext('2d', { willReadFrequently: true });
      /** Draws some of the faces, each in its quarter, at a time; returns the picture and where their points are. */
      globalThis.draw = (shown, seconds) => {
        context.fillStyle = '#8a8f94';
        context.fillRect(0, 0, 640, 480);
        const points = shown.map((n) => {
          const [x, y] = [320 * (n % 2), 240 * Math.floor(n / 2)];
          context.putImageData(faces[n].draw(seconds), x, y);
          return faces[n].keypoints(seconds).map((p) => ({ x: p.x + x, y: p.y + y }));
        });
        return { picture: context.getImageData(0, 0, 640, 480), points };
      };
      /** Mean distance of a face's keypoints from the nearest of some faces, over the box's side. */
      globalThis.off = (face, points) =>
        Math.min(
          ...points.map((want) => {
            const distances = face.keypoints.map((p, k) => Math.hypot(p.x - want[k].x, p.y - want[k].y));
            return distances.reduce((a, b) => a + b) / distances.length / face.box.size;
          }),
        );
      Object.assign(globalThis, { createDetector, createSyntheticFace });
    });
  },
});

test('a still picture: every face at the first call, and none in an empty one', async (t) => {
  const seen = await page.evaluate(async () => {
    const detector = await createDetector({ maxFaces: 4 });
    const seen = [];
    for (const shown of [[], [2], [0, 3], [0, 1, 2, 3]]) {
      const { picture, points } = draw(shown, 0);
      const { faces } = await detector.detect(picture);
      seen.push([shown.length, faces.length, Math.max(0, ...faces.map((face) => off(face, points)))]);
    }
    detector.close();
    return seen;
  });
  t.diagnostic(JSON.stringify(seen));
  for (const [want, got, error] of seen) {
    assert.equal(got, want);
    assert.ok(error < 0.05, `off by ${error} of the box`);
  }
});

test('faces come, go and come back within 5 frames, each with a number of its own', async (t) => {
  const seen = await page.evaluate(async () => {
    const detector = await createDetector({ maxFaces: 2 });
    let frame = 0;
    /** Shows faces for some frames; returns the ids of the last one. */
    const show = async (shown, frames) => {
      let ids;
      for (const end = frame + frames; frame < end; frame++) {
        const { faces } = await detector.detect(draw(shown, frame / 30).picture, { timestamp: (1000 * frame) / 30 });
        ids = faces.map((face) => face.trackId);
      }
      return ids;
    };
    const seen = [
      await show([1], 1),
      await show([1, 2], 5),
      await show([1, 2], 20),
      await show([1], 5),
      await show([1, 2], 5),
      await show([], 5),
      await show([0], 5),
    ];
    detector.close();
    return seen;
  });
  t.diagnostic(JSON.stringify(seen));
  assert.deepEqual(seen, [[1], [1, 2], [1, 2], [1], [1, 3], [], [4]]);
});

test('while a face is followed the finder rests', async () => {
  const ran = await page.evaluate(async () => {
    const detector = await createDetector();
    let ran = 0;
    for (let frame = 0; frame < 30; frame++) {
      const { timings } = await detector.detect(draw([1], frame / 30).picture, { timestamp: (1000 * frame) / 30 });
      ran += Number(timings.find > 0);
    }
    detector.close();
    return ran;
  });
  assert.ok(ran <= 2, `it ran in ${ran} of 30 frames`);
});

test('photographs with one face', { skip: existsSync(scenes) ? false : 'no ../shared/data' }, async (t) => {
  const rows = readCsv(join(scenes, 'scenes.csv')).filter((row) => row.split === 'val' && row.n_faces === '1');
  const names = Object.keys(rows[0])
    .filter((name) => name.endsWith('_x'))
    .map((name) => name.slice(0, -2));
  for (const source of new Set(rows.map((row) => row.source))) {
    const own = rows.filter((row) => row.source === source);
    const chosen = Array.from(
      { length: Math.min(PER_SOURCE, own.length) },
      (_, i) => own[Math.floor((i * own.length) / Math.min(PER_SOURCE, own.length))],
    );
    const pictures = chosen.map((row) => ({
      jpeg: readFileSync(join(scenes, row.file)).toString('base64'),
      points: names.map((name) => ({ x: Number(row[`${name}_x`]), y: Number(row[`${name}_y`]) })),
    }));
    const errors = await page.evaluate(
      async ({ pictures }) => {
        const detector = await createDetector();
        const errors = [];
        for (const { jpeg, points } of pictures) {
          const bytes = Uint8Array.from(atob(jpeg), (c) => c.charCodeAt(0));
          const { faces } = await detector.detect(await createImageBitmap(new Blob([bytes], { type: 'image/jpeg' })));
          errors.push(faces.length ? off(faces[0], [points]) : null);
        }
        detector.close();
        return errors;
      },
      { pictures },
    );
    const found = errors.filter((error) => error !== null && error < 0.1);
    const mean = found.reduce((a, b) => a + b, 0) / found.length;
    t.diagnostic(`${source}: found ${found.length} of ${errors.length}, mean error ${(96 * mean).toFixed(2)} px of 96`);
    assert.ok(found.length >= 0.9 * errors.length, `${source}: found ${found.length} of ${errors.length}`);
    assert.ok(96 * mean < 2.5, `${source}: mean error ${96 * mean} px of 96`);
  }
});

/**
 * Films pictures of 160x160 pixels with known points, held still and moved in a known way; checks jitter and lag.
 * @param {import('node:test').TestContext} t
 * @param {{ picture: string, points: { x: number, y: number }[] }[]} pictures base64
 */
async function film(t, pictures) {
  const measured = await page.evaluate(async (pictures) => {
    const [width, height] = [640, 480];
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    let state = 1;
    const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32 - 0.5;
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    // A sensor's noise, deviation 4 grey levels. Each frame takes it from another place on: made anew, it would take most of the time.
    const noise = Int8Array.from({ length: 2 * width * height }, () => 8 * (random() + random() + random()));
    const measured = [];
    for (const { picture: file, points } of pictures) {
      const bytes = Uint8Array.from(atob(file), (c) => c.charCodeAt(0));
      const photograph = await createImageBitmap(new Blob([bytes]));
      /** The photograph at a time, swaying as far as `reach` says. */
      const frame = (seconds, reach) => {
        const wave = (speed) => reach * Math.sin(speed * seconds);
        context.resetTransform();
        context.fillStyle = '#777';
        context.fillRect(0, 0, width, height);
        context.imageSmoothingQuality = 'high';
        context.translate(320 + 90 * wave(3.1), 240 + 25 * wave(4.3));
        context.rotate(0.2 * wave(2.3));
        const scale = 2.2 * (1 + 0.12 * wave(1.9));
        context.scale(scale, scale);
        context.drawImage(photograph, -80, -80);
        const map = context.getTransform();
        const picture = context.getImageData(0, 0, width, height);
        const { data } = picture;
        const from = Math.floor((random() + 0.5) * width * height);
        for (let i = 0; i < width * height; i++) {
          for (let c = 0; c < 3; c++) data[4 * i + c] += noise[from + i];
        }
        // Pixel (0, 0) has its centre at (0, 0), a canvas its corner.
        const place = ({ x, y }) => map.transformPoint({ x: x - 80 + 0.5, y: y - 80 + 0.5 });
        return { picture, want: points.map(place).map(({ x, y }) => [x - 0.5, y - 0.5]) };
      };
      const play = async (reach, frames) => {
        const detector = await createDetector({ finderUrl: false });
        const played = [];
        for (let i = 0; i < frames; i++) {
          const { picture, want } = frame(i / 30, reach);
          const { faces } = await detector.detect(picture, { timestamp: (1000 * i) / 30 });
          if (faces[0]?.trackId !== 1) throw new Error(`lost in frame ${i}`);
          if (i >= 20) played.push({ got: faces[0].keypoints.map(({ x, y }) => [x, y]), want });
        }
        detector.close();
        return played;
      };
      const each = (played, f) =>
        points.flatMap((_, k) =>
          [0, 1].map((c) =>
            f(
              played.map(({ got }) => got[k][c]),
              played.map(({ want }) => want[k][c]),
            ),
          ),
        );
      const still = await play(0, 60);
      const squares = each(still, (got) => mean(got.map((v) => (v - mean(got)) ** 2)));
      const [left, right] = [still[0].want[3], still[0].want[5]];
      const jitter = Math.sqrt(2 * mean(squares)) / Math.hypot(left[0] - right[0], left[1] - right[1]);
      /** Frames behind: the delay that best explains the difference from the truth. */
      const lag = (played) => {
        const sums = each(played, (got, want) => {
          const error = got.map((v, i) => v - want[i]);
          const middle = mean(error);
          let [along, square] = [0, 0];
          for (let i = 1; i < got.length - 1; i++) {
            const speed = (want[i + 1] - want[i - 1]) / 2;
            along -= (error[i] - middle) * speed;
            square += speed * speed;
          }
          return [along, square];
        });
        return mean(sums.map(([along]) => along)) / mean(sums.map(([, square]) => square));
      };
      measured.push({ jitter, fast: lag(await play(1, 80)), slow: lag(await play(0.12, 110)) });
    }
    return measured;
  }, pictures);
  for (const { jitter, fast, slow } of measured) {
    t.diagnostic(
      `still: ${(100 * jitter).toFixed(3)} % of the eye distance; lag in frames: fast ${fast.toFixed(2)}, slow ${slow.toFixed(2)}`,
    );
    assert.ok(jitter < 0.003, `jitter ${jitter}`);
    assert.ok(fast < 1 && slow < 1, `lag ${fast}, ${slow}`);
  }
}

test('drawn faces held still and moved: jitter and lag', { timeout: 300_000 }, async (t) => {
  const pictures = await page.evaluate(async () => {
    const pictures = [];
    for (const seed of [3, 7]) {
      const face = await createSyntheticFace({ seed, width: 160, height: 160 });
      const canvas = new OffscreenCanvas(160, 160);
      canvas.getContext('2d').putImageData(face.draw(0), 0, 0);
      const bytes = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
      pictures.push({
        picture: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')),
        points: face.keypoints(0),
      });
      face.close();
    }
    return pictures;
  });
  await film(t, pictures);
});

const photographs = join(root, '../shared/data/helen_afw');

test('photographs held still and moved: jitter and lag', {
  skip: existsSync(photographs) ? false : 'no ../shared/data',
  timeout: 300_000,
}, async (t) => {
  // Faces of people not trained on, large enough that the picture is sharp.
  const rows = readCsv(join(photographs, 'labels.csv')).filter(
    (row) => row.split === 'val' && Number(row.src_box_px) > 120,
  );
  const names = Object.keys(rows[0])
    .filter((name) => name.endsWith('_x'))
    .map((name) => name.slice(0, -2));
  await film(
    t,
    [1, 4, 7, 10]
      .map((n) => rows[Math.floor((n * rows.length) / 12)])
      .map((row) => ({
        picture: readFileSync(join(photographs, row.file)).toString('base64'),
        points: names.map((name) => ({ x: Number(row[`${name}_x`]), y: Number(row[`${name}_y`]) })),
      })),
  );
});
