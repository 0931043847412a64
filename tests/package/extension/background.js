// The background of an extension is a service worker: it has no page and no camera, and the nets run in it itself. Pictures come by message,
// such as one of captureVisibleTab().
import { createDetector } from './node_modules/face96/index.js';

let loading;

/** @param {Blob} picture */
globalThis.facesOf = async (picture) => {
  // The browser ends the background when it is idle, and the detector with it.
  loading ??= createDetector({ maxFaces: 4 });
  const { faces } = await (await loading).detect(picture);
  return faces;
};

chrome.runtime.onMessage.addListener(({ address }, _, answer) => {
  fetch(address).then((response) => response.blob()).then(facesOf).then(answer);
  return true;
});
