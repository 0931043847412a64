// The page: a source of frames -> detector -> stage, and the controls around it. It uses only the public package.
import { Face96Error } from './pkg/index.js';
import { listCameras } from './pkg/camera.js';
import { confidenceColour } from './pkg/draw.js';
import { SILENCE, openSource } from './camera.js';
import { button, byId, context2d, html, write } from './dom.js';
import { KeypointLog } from './log.js';
import { Meter } from './meter.js';
import { isNet, loadNet, netOfAddress, netOfFile, nets } from './nets.js';
import { keepOffline } from './offline.js';
import * as readings from './readings.js';
import { Recording, download, snapshot } from './save.js';
import { MAX_FACES, SMOOTHING, bindControls, onSetting, set, settings } from './settings.js';
import { kindOfFile, openFile, openSample, release, sizeOf } from './sources.js';
import * as stage from './stage.js';

/** @typedef {import('./sources.js').Source} Source */
/** @typedef {import('./pkg/index.js').Face} Face */
/** @typedef {import('./pkg/index.js').FaceDetector} Detector */
/** @typedef {import('./nets.js').Net} Net */

/** Interval at which readings are updated, in ms: numbers that change with each frame are unreadable. */
const TICK = 250;
/** Interval at which crops are updated, in ms. */
const CROP_TICK = 100;
/** The picture's short side, in widths of the smallest face that is found. */
const LEAST = 8;
/** How long a count of faces must be stable before it is announced, in ms. */
const STEADY = 1000;
/** Milliseconds in which the answer to a press is not replaced by what the run has to say. */
const ANSWER = 3000;

const video = byId('video', HTMLVideoElement);
const file = byId('file', HTMLInputElement);
const picker = byId('camera', HTMLSelectElement);
const netPicker = byId('net-choice', HTMLSelectElement);

/** The current run: aborted by Stop, by an error and by the next start. */
let session = new AbortController();
/** The current source. @type {Source | null} */
let source = null;
/** Starts the last source again. @type {() => void} */
let repeat = () => {};
/** The current or next net. */
let net = nets.find(({ id }) => id === settings.net) ?? nets[0];
/** The visitor's own net, if there was one. @type {Net | null} */
let ownNet = null;
/** The detector's promise, kept between starts so that its files are loaded once; null after a failure.
 * @type {ReturnType<typeof loadNet> | null} */
let loading = null;
/** @type {Recording | null} */
let recording = null;
const meter = new Meter();
const log = new KeypointLog();

/** The faces in the newest frame, and its time; `any` says whether there was a frame. */
let latest = { any: false, faces: /** @type {Face[]} */ ([]), at: 0 };
/** Callbacks that wait for the next frame together with its points. @type {(() => void)[]} */
const awaited = [];
/** The last announced count of faces, and the one that has to become stable. */
let told = { count: -1, next: -1, since: 0 };
/** When a press was last answered. */
let answered = -ANSWER;

// ---------------------------------------------------------------------------------------------------- runs

/**
 * Runs one source from Start to Stop. Whatever happens in between, the controls end up ready for the next start.
 * @param {Source['kind']} kind
 * @param {(signal: AbortSignal) => Promise<Source>} open
 * @param {string} waiting shown until the source is open
 */
async function begin(kind, open, waiting) {
  session.abort();
  repeat = () => void begin(kind, open, waiting);
  const mine = (session = new AbortController());
  const { signal } = mine;
  awaited.length = 0; // drops pending snapshots of the previous source
  await endRecording();
  stage.clear();
  setRunning(kind);
  say(waiting);
  let kept = false;
  try {
    // Both at once: the visitor answers the browser's question while the files arrive.
    const [opened, { detector, finder }] = await Promise.all([open(signal), loadDetector()]);
    signal.throwIfAborted();
    source = opened;
    kept = await follow(detector, finder, opened, signal);
  } catch (error) {
    if (!signal.aborted) say(error instanceof Error ? error.message : String(error), true);
  }
  mine.abort();
  if (session !== mine) return;
  source = null;
  await endRecording();
  if (!kept) stage.clear();
  setRunning(null, kept);
}

const playCamera = () =>
  begin(
    'camera',
    async (signal) => {
      const camera = await openSource(video, settings.camera, signal, sayMuted);
      set('camera', camera.deviceId);
      await showCameras();
      return camera;
    },
    'Waiting for the camera. Your browser may ask for permission.',
  );

const playSample = () => {
  const { clientWidth, clientHeight } = html('stage');
  // As wide as the stage, in a size that a slow laptop can draw between two frames.
  const size = { width: Math.round((360 * clientWidth) / clientHeight), height: 360 };
  return begin('sample', (signal) => openSample(size, () => settings.faces, signal), 'Loading the sample.');
};

/** @param {File[]} files */
function playFiles([first, ...others]) {
  if (!first) return;
  if (isNet(first)) return void chooseNet(netOfFile(first));
  begin(
    kindOfFile(first),
    (signal) => openFile(first, video, signal),
    `Opening ${first.name}${others.length ? ', the first of several files' : ''}.`,
  );
}

async function loadDetector() {
  const progress = byId('progress', HTMLProgressElement);
  /** @type {Record<string, { loaded: number, total: number | null }>} */
  const parts = {};
  progress.removeAttribute('value');
  progress.hidden = loading !== null;
  loading ??= loadNet(net, {
    maxFaces: settings.faces,
    smoothing: SMOOTHING[settings.smoothing].strength,
    onProgress({ part, loaded, total }) {
      parts[part] = { loaded, total };
      const all = Object.values(parts);
      const sum = all.reduce((n, p) => n + (p.total ?? NaN), 0);
      // A file may be announced late, and the bar must never go back.
      if (sum > 0) progress.value = Math.max(progress.value, all.reduce((n, p) => n + p.loaded, 0) / sum);
    },
  });
  try {
    return await loading;
  } catch (error) {
    loading = null;
    // A file that is not a net must not stay selected.
    if (net.own) [net, ownNet] = [nets[0], null];
    showNets();
    throw error;
  } finally {
    progress.hidden = true;
  }
}

/** Loads another net, and continues a current run with it. @param {Net} next */
async function chooseNet(next) {
  // After Stop, the run's last frame may still be on its way.
  const running = !button('stop').hidden && !session.signal.aborted;
  session.abort();
  loading?.then(
    ({ detector }) => detector.close(),
    () => {},
  );
  loading = null;
  net = next;
  if (net.own) ownNet = net;
  else set('net', net.id);
  showNets();
  if (running) return repeat();
  say(`Loading ${net.name}.`);
  try {
    const { detector } = await loadDetector();
    if (net === next) say(`${net.name} is loaded: ${detector.info.schema.keypoints.length} points.`);
  } catch (error) {
    say(error instanceof Error ? error.message : String(error), true);
  }
}

/** Shows the list of nets, with a description of the chosen one. */
function showNets() {
  const all = ownNet ? [...nets, ownNet] : nets;
  netPicker.replaceChildren(...all.map(({ id, name }) => new Option(name, id)));
  netPicker.value = net.id;
  html('net-about').textContent = net.about;
}

/**
 * Detects frame after frame until the source ends.
 * @param {Detector} detector
 * @param {boolean} finder whether it finds faces, or looks at the guide's square
 * @param {Source} from
 * @param {AbortSignal} signal
 * @returns {Promise<boolean>} whether the last picture stays on the stage
 */
async function follow(detector, finder, from, signal) {
  const { schema, net, version } = detector.info;
  let started = false;
  let crashes = 0;
  let cropped = -Infinity;
  detector.reset();
  latest = { any: false, faces: [], at: performance.now() };
  told = { count: -1, next: -1, since: 0 };
  answered = -ANSWER;
  readings.clear();
  meter.reset();
  const ticker = setInterval(() => tick(from, finder), TICK);
  signal.addEventListener('abort', () => clearInterval(ticker));
  say(from.greeting);
  for (;;) {
    await awake(detector, signal);
    const next = await from.next();
    if (!next) break;
    const begun = performance.now();
    const frame = from.take(recording !== null || awaited.length > 0);
    if (!frame) continue;
    const crops = settings.crop && begun - cropped >= CROP_TICK;
    let result;
    try {
      result = await detector.detect(frame, { timestamp: next.timestamp, crops });
    } catch (error) {
      release(frame);
      signal.throwIfAborted();
      const code = error instanceof Face96Error ? error.code : '';
      // The package restarts after a crash, once.
      if (code === 'superseded' || (code.endsWith('-crashed') && crashes++ === 0)) continue;
      // A failed detector is replaced at the next start.
      detector.close();
      loading = null;
      throw error;
    }
    if (signal.aborted) release(frame);
    signal.throwIfAborted();
    const { timings } = result;
    const faces = readings.numbered(result.faces);
    if (!started) {
      started = true;
      html('stage').classList.toggle('guided', from.kind === 'camera' && finder);
      html('stage').classList.toggle('squared', !finder);
      html('welcome').hidden = true;
      const [width, height] = sizeOf(frame).map((side) => Math.round(side * from.scale));
      log.start(schema.keypoints, {
        program: 'face96',
        net,
        version,
        source: from.name,
        kind: from.kind,
        width,
        height,
      });
    }
    latest = { any: true, faces, at: performance.now() };
    log.add(next.timestamp ?? 0, faces, from.scale);
    readings.note(faces);
    stage.show(frame, faces, schema.edges, from.kind === 'camera' && settings.mirror);
    if (crops) {
      cropped = begun;
      stage.showCrops();
    }
    recording?.frame();
    for (const resolve of awaited.splice(0)) resolve();
    meter.add(performance.now() - begun, timings.find + timings.net, next.skipped ?? 0);
  }
  stage.freeze();
  tick(from, finder);
  say(`${from.name} has ended after ${log.frames} frames.`);
  return true;
}

/** Resolves at once on a visible page, and otherwise when it is shown again. @param {Detector} detector @param {AbortSignal} signal */
async function awake(detector, signal) {
  if (!document.hidden) return;
  recording?.pause(true);
  await new Promise((resolve, reject) => {
    document.addEventListener('visibilitychange', resolve, { once: true, signal });
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  // By now, tracked faces may be anywhere.
  detector.reset();
  recording?.pause(false);
  return awake(detector, signal);
}

// ---------------------------------------------------------------------------------------------------- what is shown

/**
 * Sets the controls. Sources that are not running can be started at any time.
 * @param {Source['kind'] | null} kind of the running source
 * @param {boolean} [kept] whether the last picture stays on the stage
 */
function setRunning(kind, kept = false) {
  const focused = document.activeElement;
  const inside = html('controls').contains(focused);
  const running = kind !== null;
  html('controls').classList.toggle('running', running);
  html('controls').classList.toggle('still', kind === 'image');
  for (const id of ['start', 'play', 'open']) html(id).hidden = running;
  for (const id of ['stop', 'snapshot', 'record', 'to-file']) html(id).hidden = !running;
  html('to-camera').hidden = !running || kind === 'camera';
  html('to-sample').hidden = !running || kind === 'sample';
  // A still picture makes no recording, and has no rate.
  if (kind === 'image') html('record').hidden = true;
  html('readout').hidden = !running || kind === 'image';
  html('latency').hidden = kind === 'image';
  html('hint').hidden = true;
  html('stage').classList.remove('guided', 'squared');
  html('welcome').hidden = kept;
  if (!kept) {
    for (const id of ['fps', 'total', 'net', 'p50', 'p95', 'dropped']) html(id).textContent = '–';
    meter.reset();
    meter.draw(byId('chart', HTMLCanvasElement));
    readings.show([]);
  }
  showLogged();
  if (running) html('stage').scrollIntoView({ block: 'nearest' });
  // The button that was pressed is gone, so the focus moves to the one in its place.
  if (inside) button(running ? 'stop' : 'start').focus();
}

/** @param {string} sentence @param {boolean} [alarm] */
function say(sentence, alarm = false) {
  write(html('status'), sentence);
  html('status').classList.toggle('error', alarm);
}

/** Says what came of a press, long enough to be read. @param {string} sentence @param {boolean} [alarm] */
function answer(sentence, alarm = false) {
  answered = performance.now();
  say(sentence, alarm);
}

/** @param {boolean} muted whether the camera stopped giving pictures, or gives them again */
function sayMuted(muted) {
  say(
    muted
      ? 'The camera gives no picture; another program may have taken it, or its cover is shut.'
      : 'The camera is back.',
    muted,
  );
}

/** Updates the readings. @param {Source} from @param {boolean} finder */
function tick(from, finder) {
  const now = performance.now();
  const round = (/** @type {number | null} */ ms, digits = 1) => ms?.toFixed(digits) ?? '–';
  // First, because it reads sizes and colours: after a change, these would have to be computed again.
  meter.draw(byId('chart', HTMLCanvasElement));
  write(html('fps'), round(meter.rate, 0));
  for (const id of ['total', 'p50']) write(html(id), round(meter.percentile('total', 0.5)));
  write(html('p95'), round(meter.percentile('total', 0.95)));
  write(html('net'), round(meter.percentile('net', 0.5)));
  write(html('dropped'), String(meter.dropped));
  readings.show(latest.faces);
  showLogged();
  if (recording) write(html('recorded'), clock(recording.seconds));
  if (document.hidden) latest.at = now;
  if (from.kind === 'camera' && now - latest.at > SILENCE) {
    sayMuted(true);
    told.count = -1;
    return;
  }
  const count = latest.faces.length;
  if (count !== told.next) told = { ...told, next: count, since: now };
  html('hint').hidden = count > 0 || !latest.any || from.kind === 'image' || !finder;
  if (count === told.count || now - told.since < STEADY || now - answered < ANSWER || !latest.any) return;
  told.count = count;
  if (!finder)
    return say(count ? 'Following what is in the square.' : 'Nothing is found in the square: bring it there.');
  const faces = count === 1 ? '1 face' : `${count} faces`;
  if (from.kind === 'image') {
    const { width, height } = stage.frameSize();
    const least = Math.ceil((Math.min(width, height) * from.scale) / LEAST);
    if (count) say(`${from.name}: ${faces} found in ${round(meter.percentile('total', 1), 0)} ms.`);
    else say(`${from.name}: no face found. Faces of less than about ${least} pixels are too small for this picture.`);
  } else if (count) say(`Following ${faces}.`);
  else
    say(
      `No face in the picture. ${from.kind === 'camera' ? 'Come closer: a' : 'A'} face is found if it is at least an eighth of the picture's height.`,
    );
}

/** Fills a one-row canvas with the colours of confidence. @param {HTMLCanvasElement} canvas */
function drawScale(canvas) {
  const context = context2d(canvas);
  for (let x = 0; x < canvas.width; x++) {
    context.fillStyle = confidenceColour(x / (canvas.width - 1));
    context.fillRect(x, 0, 1, 1);
  }
}

function showLogged() {
  const { rows, frames } = log;
  button('json').disabled = button('csv').disabled = rows === 0;
  if (rows) write(html('logged'), `${rows} faces in ${frames} frames of the last run.`);
}

/** @param {number} seconds */
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;

async function showCameras() {
  // Until the visitor has allowed a camera, the number and the names of cameras are unknown.
  const cameras = (await listCameras()).filter(({ deviceId }) => deviceId);
  const options = cameras.map(({ deviceId, label }, n) => new Option(label || `Camera ${n + 1}`, deviceId));
  picker.replaceChildren(new Option('Default camera', ''), ...options);
  picker.value = cameras.some(({ deviceId }) => deviceId === settings.camera) ? settings.camera : '';
}

// ---------------------------------------------------------------------------------------------------- actions

function stop() {
  if (button('stop').hidden) return;
  session.abort();
  say('Stopped.');
}

/** Wraps an action so that its failure is shown. @param {() => Promise<void>} act @returns {() => Promise<void>} */
const telling = (act) => async () => {
  try {
    await act();
  } catch (error) {
    answer(error instanceof Error ? error.message : String(error), true);
  }
};

/** Whether the stage shows a picture of a run. */
const live = () => source !== null && html('welcome').hidden;

const takeSnapshot = telling(async () => {
  if (!live()) return;
  // A video moves on while its frame is processed, so the next frame is kept until its points are there.
  if (source?.kind !== 'image') await new Promise((resolve) => awaited.push(() => resolve(null)));
  await snapshot(settings.snapshotPoints);
  answer('The snapshot was saved to your downloads.');
});

const toggleRecording = telling(async () => {
  if (recording) return endRecording();
  if (!live() || button('record').hidden) return;
  recording = new Recording();
  html('recorded').textContent = clock(0);
  html('recording').hidden = false;
  button('record').setAttribute('aria-pressed', 'true');
  answer('Recording.');
});

async function endRecording() {
  const ended = recording;
  if (!ended) return;
  recording = null;
  html('recording').hidden = true;
  button('record').setAttribute('aria-pressed', 'false');
  await ended.end();
  answer('The recording was saved to your downloads.');
}

const systemTheme = () => (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');

function toggleTheme() {
  const theme = (settings.theme || systemTheme()) === 'dark' ? 'light' : 'dark';
  // If the choice equals the system's theme, the page follows the system again.
  set('theme', theme === systemTheme() ? '' : theme);
}

function showTheme() {
  document.documentElement.dataset.theme = settings.theme;
  button('theme').setAttribute('aria-pressed', String((settings.theme || systemTheme()) === 'dark'));
  meter.draw(byId('chart', HTMLCanvasElement));
}

function openHelp() {
  byId('help-dialog', HTMLDialogElement).showModal();
}

/** @type {Record<string, () => void>} */
const KEYS = {
  c: playCamera,
  p: playSample,
  o: () => file.click(),
  x: stop,
  s: takeSnapshot,
  r: toggleRecording,
  m: () => set('mirror', !settings.mirror),
  t: toggleTheme,
  '?': openHelp,
};

// ---------------------------------------------------------------------------------------------------- wiring

bindControls();
for (const id of ['start', 'to-camera']) button(id).addEventListener('click', playCamera);
for (const id of ['play', 'to-sample']) button(id).addEventListener('click', playSample);
for (const id of ['open', 'to-file']) button(id).addEventListener('click', () => file.click());
button('stop').addEventListener('click', stop);
button('snapshot').addEventListener('click', takeSnapshot);
button('record').addEventListener('click', toggleRecording);
button('theme').addEventListener('click', KEYS.t);
button('help').addEventListener('click', openHelp);
button('json').addEventListener('click', () => download(new Blob([log.json()], { type: 'application/json' }), 'json'));
button('csv').addEventListener('click', () => download(new Blob([log.csv()], { type: 'text/csv' }), 'csv'));
file.addEventListener('change', () => {
  playFiles([...(file.files ?? [])]);
  file.value = ''; // so that the same file can be opened again
});
picker.addEventListener('change', () => {
  set('camera', picker.value);
  if (source?.kind === 'camera') playCamera();
});
netPicker.addEventListener('change', () => {
  const chosen = [...nets, ownNet].find((net) => net?.id === netPicker.value);
  if (chosen) chooseNet(chosen);
});
button('rest').addEventListener('click', () => {
  loading?.then(
    ({ detector }) => detector.recalibrate(),
    () => {},
  );
  answer(live() ? 'Rest is what the face does in this second.' : 'Nothing runs: start the camera first.');
});
button('open-net').addEventListener('click', () => file.click());
navigator.mediaDevices?.addEventListener?.('devicechange', showCameras);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showTheme);

document.addEventListener('keydown', (event) => {
  const target = /** @type {Element} */ (event.target);
  const elsewhere =
    event.ctrlKey || event.metaKey || event.altKey || target.closest('select, dialog, input[type="range"]');
  if (!settings.shortcuts || elsewhere || event.repeat) return;
  const key = event.key.toLowerCase();
  if (key in KEYS) KEYS[key]();
  else if (Number(key) >= 1 && Number(key) <= MAX_FACES) set('faces', Number(key));
  else return;
  event.preventDefault();
});

document.addEventListener('paste', ({ clipboardData }) => playFiles([...(clipboardData?.files ?? [])]));
/** Number of elements entered, because enter and leave events come for every element that is crossed. */
let dragDepth = 0;
const carriesFiles = (/** @type {DragEvent} */ { dataTransfer }) => dataTransfer?.types.includes('Files') === true;
document.addEventListener('dragenter', (event) => {
  if (carriesFiles(event)) html('drop').hidden = ++dragDepth === 0;
});
document.addEventListener('dragleave', (event) => {
  if (carriesFiles(event)) html('drop').hidden = --dragDepth === 0;
});
document.addEventListener('dragover', (event) => carriesFiles(event) && event.preventDefault());
document.addEventListener('drop', (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  dragDepth = 0;
  html('drop').hidden = true;
  playFiles([...(event.dataTransfer?.files ?? [])]);
});

/** @param {keyof typeof settings} name */
function apply(name) {
  if (name === 'theme') showTheme();
  if (name === 'crop') {
    html('crops').hidden = !settings.crop;
    if (settings.crop) source?.again?.();
  }
  if (name === 'colours') html('legend').hidden = !settings.colours;
  if (name === 'smoothing') html('smoothing-name').textContent = SMOOTHING[settings.smoothing].name;
  if (name === 'faces' && !source) readings.show([]);
  if (name === 'faces' || name === 'smoothing') {
    loading?.then(
      ({ detector }) => {
        detector.configure({ maxFaces: settings.faces, smoothing: SMOOTHING[settings.smoothing].strength });
        source?.again?.();
      },
      () => {},
    );
  }
  stage.redraw();
}
onSetting(apply);
for (const name of /** @type {(keyof typeof settings)[]} */ (Object.keys(settings))) apply(name);

drawScale(byId('scale', HTMLCanvasElement));
readings.show([]);
showCameras();
try {
  ownNet = netOfAddress();
  net = ownNet ?? net;
} catch (error) {
  say(error instanceof Error ? error.message : String(error), true);
}
showNets();
keepOffline();
