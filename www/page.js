// The page: a camera (or the drawn sample) -> detector -> points on a canvas over the picture.
// It uses nothing but the public package.
import { Face96Error, createDetector, guideBox } from './pkg/index.js';
import { createSyntheticFace } from './pkg/synthetic.js';
import { cameraSentence, openCamera } from './camera.js';
import { drawFaces } from './draw.js';

/** @param {string} id */
const $ = (id) => document.getElementById(id);
const stage = $('stage');
const video = $('video');
const sample = $('sample');
const overlay = $('overlay');

/** Size of the sample, in pixels: what is drawn between two frames at 30 a second on a slow laptop. */
const SAMPLE = { width: 480, height: 360 };

/** What runs at the moment: aborted by Stop, by an error and by the next start. */
let session = new AbortController();
/** The detector's promise, kept from start to start so that its files are loaded once; null after a failure. */
let loading = null;

$('start').addEventListener('click', () => begin(playCamera));
$('play').addEventListener('click', () => begin(playSample));
$('stop').addEventListener('click', () => {
  session.abort();
  say('Stopped.');
  $('start').focus();
});
$('mirror').addEventListener('change', () => stage.classList.toggle('mirrored', $('mirror').checked));
stage.classList.toggle('mirrored', $('mirror').checked);

/**
 * Runs one source from Start to Stop. Whatever happens in between, the controls end up ready for the next start.
 * @param {(signal: AbortSignal) => Promise<void>} play resolves when the source ends
 */
async function begin(play) {
  session.abort();
  const mine = (session = new AbortController());
  const { signal } = mine;
  show({ busy: true });
  try {
    await play(signal);
  } catch (error) {
    if (!signal.aborted) say(error instanceof Face96Error ? error.message : cameraSentence(error), true);
  }
  mine.abort();
  if (session === mine) show({ busy: false });
}

/** @param {AbortSignal} signal */
async function playCamera(signal) {
  say('Waiting for the camera. Your browser may ask for permission.');
  const camera = await openCamera(video, signal);
  const ready = await loadDetector();
  if (signal.aborted) return;
  say('The camera is on. Hold your face in the oval.');
  stage.classList.add('guided');
  present(video, video.videoWidth, video.videoHeight);
  await Promise.race([camera.ended, follow(ready, video, signal, () => nextVideoFrame(video, signal))]);
}

/** @param {AbortSignal} signal */
async function playSample(signal) {
  say('Loading the sample.');
  const ready = await loadDetector();
  const face = await createSyntheticFace({ seed: 7, ...SAMPLE });
  signal.addEventListener('abort', () => face.close());
  if (signal.aborted) return;
  const context = sample.getContext('2d');
  Object.assign(sample, SAMPLE);
  say('Playing the sample: a face drawn by the program itself.');
  present(sample, sample.width, sample.height);
  const start = performance.now();
  await follow(ready, sample, signal, async () => {
    const now = await nextPaint(signal);
    if (signal.aborted) return undefined;
    const seconds = Math.max(0, now - start) / 1000;
    context.putImageData(face.draw(seconds), 0, 0);
    return face.box(seconds);
  });
}

async function loadDetector() {
  const progress = $('progress');
  const parts = {};
  progress.removeAttribute('value');
  progress.hidden = loading !== null;
  loading ??= createDetector({
    onProgress({ part, loaded, total }) {
      parts[part] = { loaded, total };
      const all = Object.values(parts);
      const sum = all.reduce((n, p) => n + (p.total ?? NaN), 0);
      if (all.length === 2 && sum > 0) progress.value = all.reduce((n, p) => n + p.loaded, 0) / sum;
    },
  });
  try {
    return await loading;
  } catch (error) {
    loading = null;
    throw error;
  } finally {
    progress.hidden = true;
  }
}

/**
 * Detects frame after frame until the signal.
 * @param {Awaited<ReturnType<typeof createDetector>>} ready
 * @param {HTMLVideoElement | HTMLCanvasElement} source
 * @param {AbortSignal} signal
 * @param {() => Promise<object | undefined>} next waits for a frame; may know its box
 */
async function follow(ready, source, signal, next) {
  const context = overlay.getContext('2d');
  const times = [];
  let shown = 0;
  for (;;) {
    const box = await next();
    if (signal.aborted) return;
    const width = source.videoWidth ?? source.width;
    const height = source.videoHeight ?? source.height;
    if (width !== overlay.width || height !== overlay.height) present(source, width, height);
    let result;
    try {
      result = await ready.detect(source, { box });
    } catch (error) {
      if (signal.aborted) return;
      // A camera that changes its resolution has no picture for a moment; anything else ends the run, and a detector
      // that failed is made anew at the next start.
      if (error.code === 'empty-frame') continue;
      ready.close();
      loading = null;
      throw error;
    }
    if (signal.aborted) return;
    const { faces, timings } = result;
    drawFaces(context, faces, ready.info.schema);
    stage.classList.toggle('found', faces.length > 0);
    $('hint').hidden = faces.length > 0 || !stage.classList.contains('guided');
    const now = performance.now();
    times.push({ now, ...timings });
    while (times[0].now < now - 1000) times.shift();
    // Four times a second: numbers that change each frame cannot be read.
    if (now - shown > 250) {
      shown = now;
      const mean = (key) => times.reduce((sum, t) => sum + t[key], 0) / times.length;
      const span = (now - times[0].now) / 1000;
      $('fps').textContent = span > 0 ? Math.round((times.length - 1) / span) : '–';
      $('net').textContent = mean('net').toFixed(1);
      $('total').textContent = mean('total').toFixed(1);
    }
  }
}

/** Puts a source on the stage, with overlay and guide in its pixels. */
function present(source, width, height) {
  video.hidden = source !== video;
  sample.hidden = source !== sample;
  overlay.width = width;
  overlay.height = height;
  const { x, y, size } = guideBox(width, height);
  const [cx, cy, rx, ry] = [x + 0.5, y + 0.5, size * 0.48, size * 0.62];
  $('guide').setAttribute('viewBox', `0 0 ${width} ${height}`);
  const oval = `M${cx - rx} ${cy}a${rx} ${ry} 0 1 0 ${2 * rx} 0a${rx} ${ry} 0 1 0 ${-2 * rx} 0Z`;
  $('guide-shade').setAttribute('d', `M${-width} ${-height}h${3 * width}v${3 * height}h${-3 * width}Z${oval}`);
  for (const [name, value] of Object.entries({ cx, cy, rx, ry })) $('guide-oval').setAttribute(name, value);
  $('welcome').hidden = true;
  $('readout').hidden = false;
}

/** Sets the controls; what is idle shows the welcome picture. */
function show({ busy }) {
  for (const id of ['fps', 'net', 'total']) $(id).textContent = '–';
  $('start').hidden = $('play').hidden = busy;
  $('stop').hidden = !busy;
  if (busy) {
    $('stop').focus();
    return;
  }
  stage.classList.remove('guided', 'found');
  video.hidden = sample.hidden = $('readout').hidden = $('hint').hidden = true;
  overlay.getContext('2d').clearRect(0, 0, overlay.width, overlay.height);
  $('welcome').hidden = false;
}

function say(sentence, error = false) {
  $('status').textContent = sentence;
  $('status').classList.toggle('error', error);
}

/** Resolves with the time of the next repaint, or at once when the signal is aborted. */
function nextPaint(signal) {
  return new Promise((resolve) => {
    requestAnimationFrame(resolve);
    signal.addEventListener('abort', () => resolve(0), { once: true });
  });
}

/** Resolves when the video shows a new frame, so that no frame is computed twice. */
function nextVideoFrame(element, signal) {
  return new Promise((resolve) => {
    const done = () => resolve(undefined);
    if ('requestVideoFrameCallback' in element) element.requestVideoFrameCallback(done);
    else requestAnimationFrame(done);
    signal.addEventListener('abort', done, { once: true });
  });
}
