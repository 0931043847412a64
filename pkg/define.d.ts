// By hand, for what JSDoc cannot say: the tag's type and its events'.
import { FaceKeypointsElement, FaceKeypointsEvents } from './dist/types/element.js';

export { FaceKeypointsElement };

declare module './dist/types/element.js' {
  interface FaceKeypointsElement {
    addEventListener<K extends keyof FaceKeypointsEvents>(
      type: K,
      listener: (this: FaceKeypointsElement, event: FaceKeypointsEvents[K]) => unknown,
      options?: boolean | AddEventListenerOptions,
    ): void;
    addEventListener<K extends keyof HTMLElementEventMap>(
      type: K,
      listener: (this: HTMLElement, event: HTMLElementEventMap[K]) => unknown,
      options?: boolean | AddEventListenerOptions,
    ): void;
    addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    'face-keypoints': FaceKeypointsElement;
  }
}
