// The figures as a picture: one group of bars per net and task.

const WIDTH = 760;
const LABEL = 170;
const ROW = 22;
const escaped = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/** @param {{ title: string, unit: string, bars: [string, number][] }[]} charts */
export function picture(charts) {
  const parts = [];
  let y = 10;
  for (const { title, unit, bars } of charts) {
    parts.push(`<text x="10" y="${y + 16}" class="title">${escaped(title)}</text>`);
    y += 28;
    const most = Math.max(...bars.map(([, value]) => value));
    for (const [name, value] of bars) {
      const width = ((WIDTH - LABEL - 110) * value) / most;
      const kind = name.startsWith('face96') ? 'ours' : 'other';
      parts.push(
        `<text x="${LABEL - 8}" y="${y + 14}" text-anchor="end">${escaped(name)}</text>` +
          `<rect x="${LABEL}" y="${y + 2}" width="${width.toFixed(1)}" height="${ROW - 6}" class="${kind}"/>` +
          `<text x="${(LABEL + width + 6).toFixed(1)}" y="${y + 14}">${value.toPrecision(3)} ${escaped(unit)}</text>`,
      );
      y += ROW;
    }
    y += 14;
  }
  const style = 'text{font:13px sans-serif;fill:#222}.title{font-weight:bold}.ours{fill:#2a7de1}.other{fill:#b4bac4}';
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}"><style>${style}</style>` +
    `<rect width="100%" height="100%" fill="#fff"/>${parts.join('\n')}</svg>\n`
  );
}
