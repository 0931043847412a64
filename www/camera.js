// The camera as a source of frames. The package opens it, and has a sentence for each way that this can fail.
import { openCamera } from './pkg/camera.js';
import { Face96Error } from './pkg/index.js';
import { FrameGate, videoFrames } from './sources.js';

/** A camera without a picture for this long, in ms, is reported as silent. */
export const SILENCE = 5000;

/**
 * Opens a camera in a video element. Aborting the signal switches it off.
 * @param {HTMLVideoElement} video
 * @param {string} deviceId '' for the browser's choice; if this camera is gone, another one is used
 * @param {AbortSignal} signal
 * @param {(muted: boolean) => void} onMute called when the camera stops giving pictures for a while, and when they are back
 * @returns {Promise<import('./sources.js').Source & { deviceId: string }>}
 * @throws {Face96Error} with a sentence that says what to do
 */
export async function openSource(video, deviceId, signal, onMute) {
  // The camera may be allowed and still give no picture: opening it then never ends.
  const watch = setInterval(() => video.srcObject && onMute(true), SILENCE);
  const camera = await openCamera(video, { deviceId, signal })
    .catch((error) => {
      // The camera chosen on an earlier visit may be in a drawer now.
      if (deviceId && error instanceof Face96Error && error.code === 'camera-size')
        return openCamera(video, { signal });
      throw error;
    })
    .finally(() => clearInterval(watch));
  const [track] = camera.stream.getVideoTracks();
  const gate = new FrameGate(signal);
  camera.ended.catch((error) => gate.end(error));
  track.addEventListener('mute', () => onMute(true), { signal });
  track.addEventListener('unmute', () => onMute(false), { signal });
  const deviceIdTaken = track.getSettings().deviceId ?? '';
  return {
    kind: 'camera',
    name: track.label,
    greeting: 'The camera is on.',
    deviceId: deviceIdTaken,
    ...videoFrames(video, gate, signal),
  };
}
