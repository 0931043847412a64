// The worker of start-painter.js.
import { Painter } from './painter.js';

/** @type {Painter} */
let painter;

addEventListener('message', ({ data: [method, ...args] }) => {
  if (method === 'start') painter = new Painter(args[0], args.slice(1));
  else if (method === 'draw') painter.draw(args[0]);
  else if (method === 'crop') painter.crop(args[0]);
});

postMessage('up');
