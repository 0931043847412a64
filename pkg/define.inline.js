// Registers <face-keypoints> as define.js does, from the package in one file. Development servers take it.
import { FaceKeypointsElement } from './dist/inline.js';

if (globalThis.customElements && !customElements.get('face-keypoints')) {
  customElements.define('face-keypoints', FaceKeypointsElement);
}

export { FaceKeypointsElement };
