// The whole package in one file, with wasm, weights and worker embedded: for tools that do not copy the files named by
// `new URL(..., import.meta.url)`, for development servers that move modules away from their files, and for a script from elsewhere.
// tools/inline.js makes dist/inline.js of it, with the files.js beside this one in place of the package's.
export * from '../index.js';
export { listCameras, openCamera } from '../camera.js';
export { confidenceColour, drawFaces, extent, fit } from '../draw.js';
export { FaceKeypointsElement } from '../element.js';
export { frames } from '../frames.js';
export { createSyntheticFace } from '../synthetic.js';
