// Registers <face-keypoints> like define.js, but from the package in one file. Development servers use it.
import { FaceKeypointsElement } from './dist/inline.js';

if (globalThis.customElements && !customElements.get('face-keypoints')) {
  customElements.define('face-keypoints', FaceKeypointsElement);
}

export { FaceKeypointsElement };
