import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { FaceCamera } from './FaceCamera.jsx';

function App() {
  const [text, setText] = useState('no face');
  return (
    <>
      <FaceCamera
        onFaces={(faces) => setText(faces.length ? `${faces[0].keypoints.length} keypoints` : 'no face')}
        onError={({ code, message }) => setText(`${code}: ${message}`)}
      />
      <output>{text}</output>
    </>
  );
}

createRoot(document.getElementById('root')).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
