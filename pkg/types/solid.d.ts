// The tag in JSX of Solid: `import 'face96/solid'` in one file of the project.
import type { JSX as Solid } from 'solid-js';
import type { FaceKeypointsElement } from '../define.js';
import type { FaceKeypointsElementProps, FaceKeypointsElementSolidJsProps } from '../dist/types/jsx.js';

type Props = FaceKeypointsElementProps & FaceKeypointsElementSolidJsProps;

declare module 'solid-js' {
  namespace JSX {
    interface IntrinsicElements {
      'face-keypoints': Props & Omit<Solid.HTMLAttributes<FaceKeypointsElement>, keyof Props>;
    }
  }
}
