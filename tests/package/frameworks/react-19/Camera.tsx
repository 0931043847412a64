// What only React 19 does: events as properties.
import { useRef, useState } from 'react';
import 'face96/define';
import 'face96/react';
import type { FaceKeypointsElement } from 'face96/element';

export function Camera() {
  const element = useRef<FaceKeypointsElement>(null);
  const [count, setCount] = useState(0);
  return (
    <>
      <face-keypoints ref={element} className="camera" camera mirror max-faces={2} onkeypoints={({ detail }) => setCount(detail.faces[0]?.keypoints.length ?? 0)} />
      <button onClick={() => element.current?.start()}>{count} points</button>
    </>
  );
}

// @ts-expect-error a number is no address
export const Wrong = () => <face-keypoints weights={3} />;
