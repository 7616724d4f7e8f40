// Line charts as SVG: lines with bands, a legend, and the values under the pointer.
"use strict";

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a7a00", "#56b4e9"];
const DASHES = ["", "7 4", "2 3", "8 3 2 3"];
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 420, HEIGHT = 240, LEFT = 50, RIGHT = 10, TOP = 10, BOTTOM = 30;

function svg(name, attributes, parent) {
  const one = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  if (parent) parent.append(one);
  return one;
}

const short = (value) => {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(4)));
};

function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(at);
  return found;
}

// lines: [{name, dash, points: [[x, y, low, high]]}]; equal names have one colour.
function chart(title, xName, note, lines) {
  const figure = document.createElement("figure");
  figure.className = "card";
  html("h2", figure, title);
  const points = lines.flatMap((line) => line.points);
  const xs = points.map((one) => one[0]);
  const ys = points.flatMap((one) => one.slice(1).filter((y) => y !== null));
  let [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  if (x0 === x1) [x0, x1] = [x0 - 0.5, x1 + 0.5];
  const room = (y1 - y0 || Math.abs(y0) || 1) * 0.06;
  [y0, y1] = [y0 - room, y1 + room];
  const x = (at) => LEFT + (at - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
  const y = (at) => HEIGHT - BOTTOM - (at - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
  const first = ["prompt", "identity"]; // have the same colours in all charts
  const names = [...new Set(lines.map((line) => line.name))];
  names.sort((one, other) => first.includes(other) - first.includes(one) || first.indexOf(one) - first.indexOf(other));
  const colour = (line) => COLOURS[names.indexOf(line.name) % COLOURS.length];
  const ends = lines.map((line) => `${line.label || line.name} ${short(line.points.at(-1)[1])}`);
  const root = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. Newest: ${ends.join(", ")}`,
  }, figure);
  for (const at of ticks(y0, y1, 6)) {
    svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(at), y2: y(at), class: "grid" }, root);
    svg("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, root).textContent = short(at);
  }
  for (const at of ticks(x0, x1, 5)) {
    if (xName && !Number.isInteger(Number(at.toFixed(6)))) continue;
    svg("text", { x: x(at), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, root).textContent = short(at);
  }
  for (const line of lines) {
    const banded = line.points.filter((one) => one[2] !== null);
    if (banded.length > 1) {
      const edge = [...banded.map((one) => [one[0], one[3]]), ...banded.reverse().map((one) => [one[0], one[2]])];
      svg("polygon", { points: edge.map(([a, b]) => `${x(a)},${y(b)}`).join(" "), fill: colour(line), opacity: 0.13 }, root);
    }
  }
  for (const line of lines) {
    const path = line.points.map((one) => `${x(one[0])},${y(one[1])}`).join(" ");
    svg("polyline", { points: path, fill: "none", stroke: colour(line), "stroke-width": 1.8, "stroke-dasharray": line.dash || "" }, root);
    if (line.points.length === 1 || xName === "step") {
      for (const one of line.points) svg("circle", { cx: x(one[0]), cy: y(one[1]), r: 2.6, fill: colour(line) }, root);
    }
  }
  svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 2, "text-anchor": "end" }, root).textContent = xName;
  const legend = html("p", figure, undefined, "legend");
  for (const line of lines) {
    const key = html("span", legend);
    const mark = svg("svg", { viewBox: "0 0 26 8", width: 26, height: 8, "aria-hidden": "true" }, key);
    svg("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: colour(line), "stroke-width": 2, "stroke-dasharray": line.dash || "" }, mark);
    key.append(` ${line.label || line.name} `);
    html("b", key, short(line.points.at(-1)[1]));
  }
  const values = legend.querySelectorAll("b");
  const at = html("span", legend, "", "at");
  const rule = svg("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "rule", visibility: "hidden" }, root);
  root.addEventListener("pointermove", (event) => {
    const box = root.getBoundingClientRect();
    const wanted = x0 + ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (x1 - x0);
    const near = xs.reduce((best, one) => (Math.abs(one - wanted) < Math.abs(best - wanted) ? one : best));
    lines.forEach((line, index) => {
      const found = line.points.find((one) => one[0] === near);
      values[index].textContent = found ? short(found[1]) : "–";
    });
    at.textContent = `${xName} ${near}`;
    for (const end of ["x1", "x2"]) rule.setAttribute(end, x(near));
    rule.setAttribute("visibility", "visible");
  });
  root.addEventListener("pointerleave", () => {
    lines.forEach((line, index) => { values[index].textContent = short(line.points.at(-1)[1]); });
    at.textContent = "";
    rule.setAttribute("visibility", "hidden");
  });
  if (note) html("figcaption", figure, note);
  figure.dataset.points = String(points.length);
  return figure;
}
