// A service worker of faults.test.js: looks for faces in the pixels that it is sent, as they are and as a bitmap.
import { createDetector } from '../../pkg/index.js';

addEventListener('message', async ({ data: pixels, source }) => {
  try {
    const detector = await createDetector();
    const bitmap = await createImageBitmap(new ImageData(pixels.data, pixels.width, pixels.height));
    const faces = [];
    for (const picture of [pixels, bitmap]) faces.push((await detector.detect(picture)).faces.length);
    source.postMessage({ runsIn: detector.runsIn, faces });
  } catch (error) {
    source.postMessage(`${error.code}: ${error.message}`);
  }
});
