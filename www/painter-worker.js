// The worker of painter.js.
import { Painter } from './painter.js';

/** @type {Painter} */
let painter;
/** One call after the other: a crop is read from its frame while the next call arrives. */
let turn = Promise.resolve();

addEventListener('message', ({ data: [method, ...args] }) => {
  if (method === 'start') painter = new Painter(args[0], args.slice(1));
  else if (method === 'draw') painter.draw(args[0]);
  else if (method === 'crop') turn = turn.then(() => painter.crop(args[0], args[1])).catch(() => {});
});

postMessage('up');
