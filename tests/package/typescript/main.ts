import { Face96Error, createDetector, type Detection, type Face, type Smoothing } from 'face96';
import 'face96/define';
import { openCamera } from 'face96/camera';
import { drawFaces, fit, type DrawOptions } from 'face96/draw';
import { frames } from 'face96/frames';
import * as inline from 'face96/inline';

// The tag, its properties and its events have types.
const element = document.querySelector('face-keypoints')!;
element.maxFaces = 2;
element.addEventListener('keypoints', ({ detail }) => console.log(detail.faces[0]?.pose?.yaw, detail.timings.net));
element.addEventListener('error', ({ detail }) => console.warn(detail.code === 'camera-denied', detail.message));
element.addEventListener('click', (event) => console.log(event.clientX));
const started: boolean = await element.start();

const smoothing: Smoothing = { minCutoff: 0.5 };
try {
  const detector = await createDetector({ maxFaces: 2, smoothing, onProgress: ({ part, loaded }) => console.log(part, loaded) });
  const { faces }: Detection = await detector.detect(document.querySelector('video')!, { timestamp: performance.now() });
  const names: string[] = faces.flatMap((face: Face) => face.keypoints.map((k) => k.name));
  console.log(started, names, detector.info.schema.edges);
} catch (error) {
  if (error instanceof Face96Error && error.code === 'weights-fetch') console.warn(error.message);
}

// Frame after frame, drawn; the same from the package in one file.
const video = document.querySelector('video')!;
const canvas = document.querySelector('canvas')!;
const look: DrawOptions = { labels: true, confidence: 'colour' };
await openCamera(video, { width: 1280 });
for await (const { timestamp, skipped } of frames(video)) {
  const detector: inline.FaceDetector = await inline.createDetector();
  const { faces, frame } = await detector.detect({ data: new Uint8Array(4), width: 1, height: 1 }, { timestamp });
  drawFaces(canvas.getContext('2d')!, faces, { ...look, view: fit(frame, canvas) });
  console.log(skipped, await detector.detect(new Blob([])), await detector.detect('/face.png'));
}

// @ts-expect-error: there is no such option.
await createDetector({ faces: 2 });
