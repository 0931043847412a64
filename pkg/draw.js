// Draws faces over their picture: points, lines, names and boxes, on a canvas of any size, on the page or in a worker. Importing this
// file does nothing.

/** @typedef {import('./faces.js').Face} Face */
/** @typedef {import('./faces.js').Keypoint} Keypoint */
/** @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Context */

/**
 * Where a frame lies on a canvas, see {@link fit}.
 * @typedef {object} View
 * @property {number} x left edge of the frame, in canvas pixels
 * @property {number} y upper edge
 * @property {number} scale canvas pixels per frame pixel
 * @property {number} width of the frame, in its own pixels
 * @property {{ width: number, height: number }} canvas labels stay inside it
 * @property {boolean} mirrored
 * @property {number} pixel canvas pixels per page pixel: lines and letters are that much thicker
 */

/**
 * @typedef {object} DrawOptions
 * @property {View} [view] default: the frame's pixels are those of the canvas
 * @property {[number, number][]} [edges] pairs of keypoints to join with a line: `detector.info.schema.edges`
 * @property {boolean} [points] default true
 * @property {boolean} [lines] default true
 * @property {boolean} [labels] names of the keypoints, beside the face. Default false
 * @property {boolean} [boxes] boxes with the face's number. Default false
 * @property {'colour' | 'fade'} [confidence] how a point shows its confidence: by its colour, from orange to green, or by fading. Default: not
 * @property {string} [point] colour of points and boxes
 * @property {string} [line] colour of lines
 * @property {number} [size] radius of a point, in sides of the face's box. Default 0.013, between limits that keep it visible
 */

/** From no confidence to full. One end is warm and one cool, so that people with red-green colour blindness can tell them apart. */
const SCALE = [
  [255, 112, 77],
  [255, 205, 102],
  [88, 240, 184],
];
const POINT = 'rgb(88 240 184)';
const LINE = 'rgb(214 255 240 / 0.7)';
const SHADOW = 'rgb(4 30 20 / 0.85)';

/** @param {number} confidence 0..1 @returns {string} */
export function confidenceColour(confidence) {
  const t = Math.min(1, Math.max(0, confidence)) * (SCALE.length - 1);
  const n = Math.min(SCALE.length - 2, Math.floor(t));
  const mixed = SCALE[n].map((from, i) => Math.round(from + (t - n) * (SCALE[n + 1][i] - from)));
  return `rgb(${mixed.join(' ')})`;
}

/**
 * The view of a frame shown whole and as large as possible in the middle of a canvas, like `object-fit: contain`.
 * @param {{ width: number, height: number }} frame
 * @param {{ width: number, height: number }} canvas
 * @param {{ mirrored?: boolean, pixel?: number }} [options] pixel: canvas pixels per page pixel
 * @returns {View}
 */
export function fit(frame, canvas, { mirrored = false, pixel = 1 } = {}) {
  const scale = Math.min(canvas.width / frame.width, canvas.height / frame.height);
  const [x, y] = [(canvas.width - frame.width * scale) / 2, (canvas.height - frame.height * scale) / 2];
  return { x, y, scale, width: frame.width, canvas, mirrored, pixel };
}

/** Maps pixels of the frame to those of the canvas. @param {View} view */
const placing = (view) => (/** @type {{ x: number, y: number }} */ p) => ({
  // Pixel (0, 0) has its centre at (0, 0); a canvas has its corner there.
  x: view.x + (view.mirrored ? view.width - p.x - 0.5 : p.x + 0.5) * view.scale,
  y: view.y + (p.y + 0.5) * view.scale,
});

/** Half a point's radius, in canvas pixels. It scales with the face, so that a small face is not hidden by its points.
 * @param {Face} face @param {View} view @param {number} [size] */
function unitOf(face, view, size) {
  const side = face.box.size * view.scale;
  return size === undefined ? Math.max(0.7 * view.pixel, Math.min(2.2 * view.pixel, side / 150)) : (size * side) / 2;
}

/**
 * A part of the canvas that contains everything that {@link drawFaces} draws: whole pixels, none of them outside the canvas.
 * @param {Face[]} faces
 * @param {DrawOptions & { view: View }} options
 * @returns {{ x: number, y: number, width: number, height: number } | null} null if nothing is drawn
 */
export function extent(faces, { view, labels = false, boxes = false, size }) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  const reach = (/** @type {{ x: number, y: number }} */ { x, y }, /** @type {number} */ far) => {
    [left, top] = [Math.min(left, x - far), Math.min(top, y - far)];
    [right, bottom] = [Math.max(right, x + far), Math.max(bottom, y + far)];
  };
  const place = placing(view);
  for (const face of faces) {
    const unit = unitOf(face, view, size);
    for (const keypoint of face.keypoints) reach(place(keypoint), 3 * unit);
    // Half of the box's diagonal, and the number on top.
    if (boxes) reach(place(face.box), 0.71 * face.box.size * view.scale + 16 * unit);
    if (labels) {
      const ys = face.keypoints.map((keypoint) => place(keypoint).y);
      const middle = (Math.min(...ys) + Math.max(...ys)) / 2;
      // Labels go to the sides, as far as they have to.
      for (const x of [0, view.canvas.width]) reach({ x, y: middle }, (LINE_HEIGHT * view.pixel * (ys.length + 3)) / 4);
    }
  }
  const [x, y] = [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top))];
  const [width, height] = [
    Math.min(view.canvas.width, Math.ceil(right)) - x,
    Math.min(view.canvas.height, Math.ceil(bottom)) - y,
  ];
  return width > 0 && height > 0 ? { x, y, width, height } : null;
}

/**
 * Draws over the canvas; the caller clears it.
 * @param {Context} context
 * @param {Face[]} faces in pixels of the frame
 * @param {DrawOptions} [options]
 */
export function drawFaces(context, faces, options = {}) {
  const { canvas } = context;
  const { view = fit(canvas, canvas), edges = [], confidence, point = POINT, line = LINE, size } = options;
  const { points = true, lines = true, labels = false, boxes = false } = options;
  context.lineCap = context.lineJoin = 'round';
  const place = placing(view);
  /** @type {Column[]} */
  const columns = [];
  for (const [n, face] of faces.entries()) {
    const places = face.keypoints.map(place);
    const unit = unitOf(face, view, size);
    if (boxes) drawBox(context, face.box, String(face.trackId ?? n + 1), place, unit, point);
    if (lines) {
      context.beginPath();
      for (const [a, b] of edges) {
        context.moveTo(places[a].x, places[a].y);
        context.lineTo(places[b].x, places[b].y);
      }
      context.strokeStyle = line;
      context.lineWidth = unit;
      context.stroke();
    }
    if (labels) {
      const own = labelColumns(context, face.keypoints, places, 0.55 * face.box.size * view.scale, view);
      // Names on top of names are unreadable, and they are the same for each face.
      if (!own.some((a) => columns.some((b) => overlap(a, b)))) {
        own.forEach((column) => drawColumn(context, column, places, view.pixel));
        columns.push(...own);
      }
    }
    if (points) {
      context.strokeStyle = SHADOW;
      context.lineWidth = 0.7 * unit;
      places.forEach(({ x, y }, k) => {
        const sure = face.keypoints[k].confidence;
        context.beginPath();
        context.arc(x, y, 2 * unit, 0, 2 * Math.PI);
        context.globalAlpha = confidence === 'fade' ? 0.4 + 0.6 * sure : 1;
        context.fillStyle = confidence === 'colour' ? confidenceColour(sure) : point;
        context.fill();
        // The dark rim keeps the point visible on light skin.
        context.stroke();
      });
      context.globalAlpha = 1;
    }
  }
}

/**
 * @param {Context} context
 * @param {Face['box']} box
 * @param {string} name
 * @param {(p: { x: number, y: number }) => { x: number, y: number }} place
 * @param {number} unit
 * @param {string} colour
 */
function drawBox(context, box, name, place, unit, colour) {
  const [cos, sin] = [Math.cos(box.roll) * box.size * 0.5, Math.sin(box.roll) * box.size * 0.5];
  const corners = [
    [-1, -1],
    [1, -1],
    [1, 1],
    [-1, 1],
  ].map(([u, v]) => place({ x: box.x + u * cos - v * sin, y: box.y + u * sin + v * cos }));
  context.beginPath();
  for (const { x, y } of corners) context.lineTo(x, y);
  context.closePath();
  context.strokeStyle = SHADOW;
  context.lineWidth = 2.4 * unit;
  context.stroke();
  context.strokeStyle = colour;
  context.lineWidth = 1.2 * unit;
  context.stroke();
  const [top] = corners.sort((a, b) => a.y - b.y);
  write(context, name, top.x, top.y - 8 * unit, 7 * unit, 'center');
}

/** Height of a label's letters and of its line, in page pixels. */
const LABEL_SIZE = 11;
const LINE_HEIGHT = 14;

/** @param {Keypoint} keypoint */
const labelOf = ({ name }) => name.replaceAll('_', ' ');

/**
 * Labels one below the other, with the indices of their points.
 * @typedef {{ side: -1 | 1, x: number, y: number, width: number, gap: number, names: [string, number][] }} Column
 */

/**
 * Labels in two columns beside the face, each joined to its point; over the face they would cover it and each other.
 * @param {Context} context
 * @param {Keypoint[]} keypoints
 * @param {{ x: number, y: number }[]} points on the canvas
 * @param {number} reach from the middle of the points to the columns, in canvas pixels
 * @param {View} view
 * @returns {Column[]}
 */
function labelColumns(context, keypoints, points, reach, { pixel, canvas }) {
  const xs = points.map(({ x }) => x);
  const ys = points.map(({ y }) => y);
  const middle = (Math.min(...xs) + Math.max(...xs)) / 2;
  const [top, bottom] = [Math.min(...ys), Math.max(...ys)];
  const order = points.map((_, k) => k).sort((a, b) => xs[a] - xs[b]);
  const half = Math.ceil(order.length / 2);
  context.font = `600 ${LABEL_SIZE * pixel}px system-ui, sans-serif`;
  return /** @type {[-1 | 1, number[]][]} */ ([
    [-1, order.slice(0, half)],
    [1, order.slice(half)],
  ]).map(([side, group]) => {
    const names = group
      .sort((a, b) => ys[a] - ys[b])
      .map((k) => /** @type {[string, number]} */ ([labelOf(keypoints[k]), k]));
    const gap = Math.max(LINE_HEIGHT * pixel, (bottom - top) / Math.max(1, group.length - 1));
    const width = Math.max(...names.map(([name]) => context.measureText(name).width)) + 6 * pixel;
    // Better over the face than beyond the edge.
    const x = side < 0 ? Math.max(width, middle - reach) : Math.min(canvas.width - width, middle + reach);
    return { side, x, y: (top + bottom - gap * (group.length - 1)) / 2, width, gap, names };
  });
}

/** @param {Column} a @param {Column} b */
function overlap(a, b) {
  const [leftA, leftB] = [a, b].map(({ side, x, width }) => (side < 0 ? x - width : x));
  const [topA, topB] = [a, b].map(({ y, gap }) => y - gap / 2);
  const [heightA, heightB] = [a, b].map(({ gap, names }) => gap * names.length);
  return leftA < leftB + b.width && leftB < leftA + a.width && topA < topB + heightB && topB < topA + heightA;
}

/**
 * @param {Context} context
 * @param {Column} column
 * @param {{ x: number, y: number }[]} points on the canvas
 * @param {number} pixel canvas pixels per page pixel
 */
function drawColumn(context, { side, x, y, gap, names }, points, pixel) {
  for (const [i, [name, k]] of names.entries()) {
    context.beginPath();
    context.moveTo(points[k].x, points[k].y);
    context.lineTo(x - side * 2 * pixel, y + i * gap);
    context.strokeStyle = 'rgb(255 255 255 / 0.45)';
    context.lineWidth = pixel;
    context.stroke();
    write(context, name, x, y + i * gap, LABEL_SIZE * pixel, side < 0 ? 'right' : 'left');
  }
}

/**
 * @param {Context} context
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {number} size of the letters, in canvas pixels
 * @param {CanvasTextAlign} align
 */
function write(context, text, x, y, size, align) {
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textAlign = align;
  context.textBaseline = 'middle';
  context.strokeStyle = SHADOW;
  context.lineWidth = size / 4;
  context.strokeText(text, x, y);
  context.fillStyle = '#fff';
  context.fillText(text, x, y);
}
