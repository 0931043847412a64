// React 18 knows no events of the tag: they come by its reference.
import { useEffect, useRef, useState } from 'react';
import 'face96/define';
import 'face96/react';
import type { FaceKeypointsElement } from 'face96/element';

export function Camera() {
  const element = useRef<FaceKeypointsElement>(null);
  const [count, setCount] = useState(0);
  useEffect(() => {
    const { current } = element;
    const show = ({ detail }: { detail: { faces: { keypoints: unknown[] }[] } }) => setCount(detail.faces[0]?.keypoints.length ?? 0);
    current?.addEventListener('keypoints', show);
    return () => current?.removeEventListener('keypoints', show as unknown as EventListener);
  }, []);
  return (
    <>
      <face-keypoints ref={element} class="camera" camera mirror max-faces={2} />
      <button onClick={() => element.current?.start()}>{count} points</button>
    </>
  );
}

// @ts-expect-error a number is no address
export const Wrong = () => <face-keypoints weights={3} />;
