// Draws faces on a canvas that has the frame's size.

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{ box: { size: number }, keypoints: { x: number, y: number, confidence: number }[] }[]} faces
 * @param {{ edges: [number, number][] }} schema
 */
export function drawFaces(context, faces, schema) {
  const style = getComputedStyle(document.documentElement);
  const edge = style.getPropertyValue('--edge');
  const point = style.getPropertyValue('--point');
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  for (const { box, keypoints } of faces) {
    const unit = box.size / 96;
    context.lineCap = context.lineJoin = 'round';
    context.strokeStyle = edge;
    context.lineWidth = 0.5 * unit;
    context.beginPath();
    for (const [a, b] of schema.edges) {
      // Pixel (0, 0) has its centre at (0, 0), a canvas its corner.
      context.moveTo(keypoints[a].x + 0.5, keypoints[a].y + 0.5);
      context.lineTo(keypoints[b].x + 0.5, keypoints[b].y + 0.5);
    }
    context.stroke();
    for (const { x, y, confidence } of keypoints) {
      context.globalAlpha = 0.55 + 0.45 * Math.min(1, Math.max(0, confidence));
      context.beginPath();
      context.arc(x + 0.5, y + 0.5, 1.1 * unit, 0, 2 * Math.PI);
      context.fillStyle = point;
      context.fill();
      // A dark rim keeps the point visible on light skin.
      context.lineWidth = 0.35 * unit;
      context.strokeStyle = 'rgb(4 30 20 / 0.8)';
      context.stroke();
    }
    context.globalAlpha = 1;
  }
}
