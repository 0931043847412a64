// What a server-rendering framework does with a component that uses face96: it imports it, renders its markup, and leaves the
// rest to the browser. Nothing here touches a DOM.
import { Face96Error, createDetector, guideBox } from 'face96';
import { FaceKeypointsElement } from 'face96/element';
import 'face96/define';
import 'face96/camera';
import 'face96/synthetic';

export const html = '<face-keypoints camera mirror></face-keypoints>';
console.log(JSON.stringify({
  html,
  guide: guideBox(640, 480),
  names: [createDetector.name, FaceKeypointsElement.name, Face96Error.name],
}));
