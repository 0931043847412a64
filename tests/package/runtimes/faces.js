// Faces of picture files, in Node, Deno or Bun: sharp decodes, the nets see its raw pixels.
//   node faces.js photo.jpg ...
import { createDetector } from 'face96';
import sharp from 'sharp';

const files = globalThis.Deno?.args ?? process.argv.slice(2);
const detector = await createDetector({ maxFaces: 4 });
for (const file of files) {
  // rotate() turns a phone's picture as its EXIF says.
  const { data, info } = await sharp(file).rotate().removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const { faces } = await detector.detect({ data: new Uint8Array(data), width: info.width, height: info.height });
  console.log(JSON.stringify({ file, runsIn: detector.runsIn, faces: faces.map(({ box, keypoints }) => ({ box, keypoints })) }));
}
detector.close();
