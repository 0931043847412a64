import { useEffect, useRef } from 'react';
import 'face96/define';

/**
 * @param {{ maxFaces?: number, onFaces?: (faces: import('face96').Face[]) => void,
 *   onError?: (error: { code: string, message: string }) => void }} props
 */
export function FaceCamera({ maxFaces = 1, onFaces, onError }) {
  const ref = useRef(null);
  useEffect(() => {
    const element = ref.current;
    const faces = ({ detail }) => onFaces?.(detail.faces);
    const error = ({ detail }) => onError?.(detail);
    element.addEventListener('keypoints', faces);
    element.addEventListener('error', error);
    return () => {
      element.removeEventListener('keypoints', faces);
      element.removeEventListener('error', error);
    };
  }, [onFaces, onError]);
  return <face-keypoints ref={ref} camera mirror autostart max-faces={maxFaces} />;
}
