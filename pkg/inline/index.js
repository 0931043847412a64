// The whole package in one file, wasm, weights and worker inside: for tools that do not copy the files that `new URL(..., import.meta.url)`
// names, for development servers that move modules away from theirs, and for a script from elsewhere. tools/inline.js makes dist/inline.js of
// it, with files.js beside this one in the place of the package's.
export * from '../index.js';
export { listCameras, openCamera } from '../camera.js';
export { confidenceColour, drawFaces, extent, fit } from '../draw.js';
export { FaceKeypointsElement } from '../element.js';
export { frames } from '../frames.js';
export { createSyntheticFace } from '../synthetic.js';
