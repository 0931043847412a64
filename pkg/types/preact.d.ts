// The tag in JSX of Preact: `import 'face96/preact'` in one file of the project.
import type { JSX as Preact, Ref } from 'preact';
import type { FaceKeypointsElement } from '../define.js';
import type { FaceKeypointsElementProps } from '../dist/types/jsx.js';

declare module 'preact' {
  namespace JSX {
    interface IntrinsicElements {
      'face-keypoints': FaceKeypointsElementProps & { ref?: Ref<FaceKeypointsElement> } & Omit<Preact.IntrinsicElements['div'], 'ref' | keyof FaceKeypointsElementProps>;
    }
  }
}
