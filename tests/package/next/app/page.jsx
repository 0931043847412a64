'use client';
// Rendered on the server too, where the package does nothing; the camera starts in the browser.
import { createDetector } from 'face96';
import { openCamera } from 'face96/camera';
import { frames } from 'face96/frames';
import { useEffect, useRef, useState } from 'react';

export default function Page() {
  const video = useRef(null);
  const [said, say] = useState('no face');
  useEffect(() => {
    const stop = new AbortController();
    const { signal } = stop;
    const run = async () => {
      const [detector] = await Promise.all([createDetector({ signal }), openCamera(video.current, { signal })]);
      for await (const { timestamp } of frames(video.current, { signal })) {
        const { faces } = await detector.detect(video.current, { timestamp });
        say(faces.length ? `${faces[0].keypoints.length} keypoints` : 'no face');
      }
    };
    run().catch((error) => signal.aborted || say(`${error.code}: ${error.message}`));
    return () => stop.abort();
  }, []);
  return (
    <>
      <video ref={video} playsInline muted />
      <output>{said}</output>
    </>
  );
}
