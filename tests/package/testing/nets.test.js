/**
 * The nets themselves, on raw pixels, without a DOM.
 * @jest-environment node
 */
import { createDetector } from 'face96';
import { createSyntheticFace } from 'face96/synthetic';

test('a face is found in raw pixels', async () => {
  const face = await createSyntheticFace({ seed: 3, width: 320, height: 240 });
  const detector = await createDetector();
  const { faces, frame } = await detector.detect(face.draw(0));
  expect(faces.length).toBe(1);
  expect(frame).toEqual({ width: 320, height: 240 });
  const want = face.keypoints(0);
  const off = faces[0].keypoints.map(({ x, y }, k) => Math.hypot(x - want[k].x, y - want[k].y));
  expect(off.reduce((a, b) => a + b) / off.length).toBeLessThan(4);
  detector.close();
  face.close();
});
