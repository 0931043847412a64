// The tag in components of Svelte 5: `import 'face96/svelte'` in one file of the project.
import type { HTMLAttributes } from 'svelte/elements';
import type { FaceKeypointsElement } from '../define.js';
import type { FaceKeypointsElementProps } from '../dist/types/jsx.js';

declare module 'svelte/elements' {
  interface SvelteHTMLElements {
    'face-keypoints': FaceKeypointsElementProps & Omit<HTMLAttributes<FaceKeypointsElement>, keyof FaceKeypointsElementProps>;
  }
}
