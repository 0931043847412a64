// The tag in JSX of React 18 and 19: `import 'face96/react'` in one file of the project. React 18 passes only strings to the tag and does
// not know its events: use a ref for these, and `class` instead of `className`.
import type { DetailedHTMLProps, HTMLAttributes } from 'react';
import type { FaceKeypointsElement } from '../define.js';
import type { FaceKeypointsElementProps } from '../dist/types/jsx.js';

declare module 'react' {
  namespace JSX {
    interface IntrinsicElements {
      'face-keypoints': FaceKeypointsElementProps & { class?: string } & DetailedHTMLProps<HTMLAttributes<FaceKeypointsElement>, FaceKeypointsElement>;
    }
  }
}
