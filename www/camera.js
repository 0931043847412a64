// Opening the camera, and a sentence for each way that can fail.

const SENTENCES = {
  unsupported: 'This browser gives pages no camera; try a current Firefox, Chrome, Edge or Safari.',
  insecure: 'The camera needs a secure page: open this one by https or on localhost.',
  unplugged: 'The camera was unplugged or taken away; connect it and press Start camera.',
  NotAllowedError: 'The camera was denied; allow it for this page in your browser and press Start camera.',
  NotFoundError: 'No camera was found; connect one and press Start camera, or play the sample.',
  NotReadableError: 'The camera is in use by another program; close that program and press Start camera.',
  OverconstrainedError: 'The camera has no picture size that fits this page; try another camera.',
  AbortError: 'The camera stopped while it was starting; press Start camera to try again.',
};

/**
 * @param {Error} error from openCamera
 * @returns {string} one sentence that says what to do
 */
export function cameraSentence(error) {
  // SecurityError: the permissions policy of the page that embeds this one.
  const name = error.name === 'SecurityError' ? 'NotAllowedError' : error.name;
  return SENTENCES[name] ?? `The camera did not start: ${error.message}`;
}

/** @param {string} name a key of SENTENCES */
function fault(name) {
  return Object.assign(new Error(SENTENCES[name]), { name });
}

/**
 * Opens the user's camera in a video element. Aborting the signal switches it off.
 * @param {HTMLVideoElement} video
 * @param {AbortSignal} signal
 * @returns {Promise<{ ended: Promise<never> }>} `ended` rejects when the camera goes away
 */
export async function openCamera(video, signal) {
  if (!window.isSecureContext) throw fault('insecure');
  if (!navigator.mediaDevices?.getUserMedia) throw fault('unsupported');
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: false,
    video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: 'user' },
  });
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    if (video.srcObject === stream) video.srcObject = null;
  };
  signal.addEventListener('abort', close);
  if (signal.aborted) close();
  signal.throwIfAborted();
  const ended = new Promise((_, reject) => {
    for (const track of stream.getTracks()) track.addEventListener('ended', () => reject(fault('unplugged')));
  });
  ended.catch(() => {}); // it may go before anyone waits for it
  video.srcObject = stream;
  await Promise.race([video.play(), ended]);
  return { ended };
}
