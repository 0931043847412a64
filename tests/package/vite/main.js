// The detector alone: your video, your drawing.
import { createDetector } from 'face96';
import { openCamera } from 'face96/camera';

const video = document.querySelector('video');
const output = document.querySelector('output');
try {
  const [detector] = await Promise.all([createDetector(), openCamera(video)]);
  const next = async (now, { captureTime }) => {
    const { faces } = await detector.detect(video, { timestamp: captureTime ?? now });
    output.value = faces.length ? `${faces[0].keypoints.length} keypoints` : 'no face';
    video.requestVideoFrameCallback(next);
  };
  video.requestVideoFrameCallback(next);
} catch (error) {
  output.value = `${error.code}: ${error.message}`;
}
