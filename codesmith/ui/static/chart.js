// A small line over time, drawn by us.

import { h, svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 48;

export function chart(title, points, format, most) {
  const values = points.map((one) => one.value);
  const latest = values.at(-1);
  const top = Math.max(most ?? 0, ...values, 1e-9);
  const from = points[0]?.at ?? 0;
  const span = Math.max((points.at(-1)?.at ?? 0) - from, 1);
  const line = points.map((one) => `${((one.at - from) / span * WIDTH).toFixed(1)},${(HEIGHT - 2 - one.value / top * (HEIGHT - 4)).toFixed(1)}`).join(" ");
  const text = `${format(latest)}${most ? ` of ${format(most)}` : ""}`;
  return h("figure", { class: "chart" },
    h("figcaption", {}, `${title}: `, h("strong", {}, text)),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}, now ${text}, at most ${format(Math.max(...values))}`, preserveAspectRatio: "none" },
      svg("polyline", { points: line, class: "line" })));
}
