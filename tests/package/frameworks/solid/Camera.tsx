import { createSignal } from 'solid-js';
import 'face96/define';
import 'face96/solid';
import type { FaceKeypointsElement } from 'face96/element';

export function Camera() {
  let element!: FaceKeypointsElement;
  const [count, setCount] = createSignal(0);
  return (
    <>
      <face-keypoints ref={element} class="camera" prop:camera={true} prop:mirror={true} prop:maxFaces={2} on:keypoints={({ detail }) => setCount(detail.faces[0]?.keypoints.length ?? 0)} />
      <button onClick={() => element.start()}>{count()} points</button>
    </>
  );
}

// @ts-expect-error a word is no number of faces
export const Wrong = () => <face-keypoints prop:maxFaces="two" />;
