// By its path: an import map is an inline script, which the policy refuses.
import './node_modules/face96/define.js';

const face = document.querySelector('face-keypoints');
const output = document.querySelector('output');
face.addEventListener('facefound', ({ detail }) => (output.value = `${detail.face.keypoints.length} keypoints`));
face.addEventListener('error', ({ detail }) => (output.value = `${detail.code}: ${detail.message}`));
