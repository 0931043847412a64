// The detector alone: your video, your drawing.
import { createDetector } from 'face96';
import { openCamera } from 'face96/camera';
import { frames } from 'face96/frames';

const video = document.querySelector('video');
const output = document.querySelector('output');

async function run() {
  const [detector] = await Promise.all([createDetector(), openCamera(video)]);
  for await (const { timestamp } of frames(video)) {
    const { faces } = await detector.detect(video, { timestamp });
    output.value = faces.length ? `${faces[0].keypoints.length} keypoints` : 'no face';
  }
}

run().catch((error) => (output.value = `${error.code}: ${error.message}`));
