// Registers <face-keypoints>. The only file of the package whose import has an effect; a second import, or another copy of the
// package on the same page, changes nothing, and without a DOM it does nothing at all.
import { FaceKeypointsElement } from './element.js';

if (globalThis.customElements && !customElements.get('face-keypoints')) {
  customElements.define('face-keypoints', FaceKeypointsElement);
}

export { FaceKeypointsElement };
