// The camera as a source of frames, the list of cameras, and a sentence for each way they can fail.
import { FrameGate, videoFrames } from './sources.js';

/** @type {Record<string, string>} */
const SENTENCES = {
  unsupported: 'This browser gives pages no camera; try a current Firefox, Chrome, Edge or Safari.',
  insecure: 'The camera needs a secure page: open this one by https or on localhost.',
  unplugged: 'The camera was unplugged or taken away; connect it and press Start camera.',
  NotAllowedError: 'The camera was denied; allow it for this page in your browser and press Start camera.',
  // The permissions policy of the page that embeds this one.
  SecurityError: 'The camera was denied by the page around this one; open this page by itself.',
  NotFoundError: 'No camera was found; connect one and press Start camera, or play the sample.',
  NotReadableError: 'The camera is in use by another program; close that program and press Start camera.',
  OverconstrainedError: 'The camera has no picture size that fits this page; try another camera.',
  AbortError: 'The camera stopped while it was starting; press Start camera to try again.',
};

/** @param {string} name a key of SENTENCES, or the name of a DOMException @param {unknown} [cause] */
function fault(name, cause) {
  const why = cause instanceof Error ? cause.message : name;
  return new Error(SENTENCES[name] ?? `The camera did not start: ${why}`, { cause });
}

/**
 * Opens a camera in a video element. Aborting the signal switches it off.
 * @param {HTMLVideoElement} video
 * @param {string} deviceId '' for the browser's choice; another camera is taken where this one is not there
 * @param {AbortSignal} signal
 * @param {(muted: boolean) => void} onMute told when the camera stops giving pictures for a while, and when they are back
 * @returns {Promise<import('./sources.js').Source & { deviceId: string }>}
 * @throws {Error} with a sentence that says what to do
 */
export async function openCamera(video, deviceId, signal, onMute) {
  if (!window.isSecureContext) throw fault('insecure');
  if (!navigator.mediaDevices?.getUserMedia) throw fault('unsupported');
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { width: { ideal: 640 }, height: { ideal: 480 }, ...(deviceId ? { deviceId } : { facingMode: 'user' }) },
    });
    const [track] = stream.getVideoTracks();
    signal.addEventListener('abort', () => {
      track.stop();
      if (video.srcObject === stream) video.srcObject = null;
    });
    if (signal.aborted) track.stop();
    signal.throwIfAborted();
    const gate = new FrameGate(signal);
    track.addEventListener('ended', () => gate.end(fault('unplugged')), { signal });
    track.addEventListener('mute', () => onMute(true), { signal });
    track.addEventListener('unmute', () => onMute(false), { signal });
    video.srcObject = stream;
    // Not awaited: a camera that dies before its first picture would leave it open for ever. A frame is what counts.
    video.play().catch(() => {});
    return { kind: 'camera', name: track.label, deviceId: track.getSettings().deviceId ?? '', ...videoFrames(video, gate) };
  } catch (error) {
    signal.throwIfAborted();
    throw fault(error instanceof Error ? error.name : 'unknown', error);
  }
}

/**
 * The cameras, for a list to choose from. Their names are known once the visitor has allowed one.
 * @returns {Promise<{ id: string, name: string }[]>}
 */
export async function listCameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  const cameras = devices.filter(({ kind, deviceId }) => kind === 'videoinput' && deviceId);
  return cameras.map(({ deviceId, label }, n) => ({ id: deviceId, name: label || `Camera ${n + 1}` }));
}
