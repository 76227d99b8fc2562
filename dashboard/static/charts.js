// Two small SVG charts, written here so that the page needs no library: the learning curve and a rolling strip.

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

/** A step of 1, 2, 5 × 10ⁿ that divides `span` into at most `count` parts. */
export function niceStep(span, count) {
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

const axisNumber = (value) => (value >= 10000 ? `${value / 1000}k` : `${+value.toPrecision(6)}`);

/** Success over practice time or steps: evaluations with Wilson bands, practice success, and marks where help was asked. */
export class LearningCurve {
  constructor(host) {
    this.host = host;
    this.axis = "time";
    this.data = { evaluations: [], practice: [], help: [] };
    this.emptyText = "";
    new ResizeObserver(() => this.draw()).observe(host);
    host.addEventListener("pointermove", (event) => this.#hover(event));
    host.addEventListener("pointerleave", () => this.#unhover());
  }

  update(data, emptyText) {
    this.data = data;
    this.emptyText = emptyText;
    this.draw();
  }

  setAxis(axis) {
    this.axis = axis;
    this.draw();
  }

  #position(timeS, steps) {
    return this.axis === "time" ? timeS / 60 : steps;
  }

  #stepsAt(timeS) {
    const practice = this.data.practice;
    const after = practice.find((point) => point[0] >= timeS) ?? practice.at(-1);
    return after ? after[1] : 0;
  }

  draw() {
    const { host, data } = this;
    const width = host.clientWidth, height = host.clientHeight;
    if (!width || !height) return;
    host.replaceChildren();
    if (!data.evaluations.length && !data.practice.length) {
      const empty = document.createElement("div");
      empty.className = "empty";
      empty.textContent = this.emptyText;
      host.append(empty);
      return;
    }
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "success over practice" }, host);
    const left = 38, right = width - 10, top = 8, bottom = height - 24;
    const positions = [...data.evaluations.map((e) => this.#position(e.time_s, e.env_steps)), ...data.practice.map((p) => this.#position(p[0], p[1]))];
    const end = Math.max(...positions, this.axis === "time" ? 1 : 100);
    const x = (value) => left + (value / end) * (right - left);
    const y = (rate) => bottom - rate * (bottom - top);
    this.scale = { x, left, right, top, bottom, end };

    for (const rate of [0, 0.25, 0.5, 0.75, 1]) {
      shape("line", { class: "grid", x1: left, x2: right, y1: y(rate), y2: y(rate) }, svg);
      shape("text", { x: left - 8, y: y(rate) + 4, "text-anchor": "end" }, svg).textContent = `${rate * 100}%`;
    }
    const step = niceStep(end, Math.max(3, Math.floor(width / 90)));
    for (let value = 0; value <= end * 1.0001; value += step) {
      shape("text", { x: x(value), y: height - 6, "text-anchor": value ? "middle" : "start" }, svg).textContent =
        axisNumber(value) + (value ? "" : this.axis === "time" ? " min" : " steps");
    }
    ["backward", "forward"].forEach((phase) => {
      const column = phase === "forward" ? 2 : 3;
      const practice = data.practice.filter((p) => p[column] !== null).map((p) => [x(this.#position(p[0], p[1])), y(p[column])]);
      if (practice.length > 1) shape("path", { class: `thin ${phase}`, d: path(practice) }, svg);
    });
    ["backward", "forward"].forEach((phase) => {
      const points = data.evaluations.filter((e) => e.phase === phase).map((e) => ({ ...e, x: x(this.#position(e.time_s, e.env_steps)) }));
      if (points.length > 1) {
        const outline = [...points.map((p) => [p.x, y(p.high)]), ...points.map((p) => [p.x, y(p.low)]).reverse()];
        shape("path", { class: `band ${phase}`, d: `${path(outline)}Z` }, svg);
        shape("path", { class: `line ${phase}`, d: path(points.map((p) => [p.x, y(p.rate)])) }, svg);
      }
      for (const p of points) {
        if (points.length < 40) shape("circle", { class: `mark ${phase}`, cx: p.x, cy: y(p.rate), r: 4 }, svg);
      }
    });
    for (const time of data.help) {
      const at = x(this.#position(time, this.#stepsAt(time)));
      shape("path", { class: "help", d: `M${at - 5} ${bottom}L${at} ${bottom - 8}L${at + 5} ${bottom}Z` }, svg);
    }
    this.cursor = shape("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" }, svg);
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    host.append(this.tip);
  }

  #hover(event) {
    if (!this.scale || !this.tip || !this.data.evaluations.length) return;
    const { x, left, right, end } = this.scale;
    const at = ((event.clientX - this.host.getBoundingClientRect().left - left) / (right - left)) * end;
    const near = (phase) =>
      this.data.evaluations
        .filter((e) => e.phase === phase)
        .reduce((best, e) => (!best || Math.abs(this.#position(e.time_s, e.env_steps) - at) < Math.abs(this.#position(best.time_s, best.env_steps) - at) ? e : best), null);
    const forward = near("forward"), backward = near("backward");
    const anchor = forward ?? backward;
    const px = x(this.#position(anchor.time_s, anchor.env_steps));
    const say = (e) => `${e.phase}  ${Math.round(e.rate * 100)}%  (${e.successes} of ${e.episodes}; ${Math.round(e.low * 100)}–${Math.round(e.high * 100)}%)`;
    this.tip.textContent = [`${(anchor.time_s / 60).toFixed(1)} min, ${anchor.env_steps.toLocaleString("en")} steps`, ...[forward, backward].filter(Boolean).map(say)].join("\n");
    this.tip.hidden = false;
    const room = this.host.clientWidth - this.tip.offsetWidth;
    this.tip.style.left = `${px + 12 < room ? px + 12 : Math.max(0, px - 12 - this.tip.offsetWidth)}px`;
    this.cursor.setAttribute("x1", px);
    this.cursor.setAttribute("x2", px);
    this.cursor.setAttribute("visibility", "visible");
  }

  #unhover() {
    if (this.tip) this.tip.hidden = true;
    this.cursor?.setAttribute("visibility", "hidden");
  }
}

/** The last minute of a probability. */
export class Strip {
  constructor(host, seconds = 60) {
    this.host = host;
    this.seconds = seconds;
    this.points = [];
    this.svg = shape("svg", { preserveAspectRatio: "none", viewBox: "0 0 100 40" }, host);
    for (const y of [1, 39]) shape("line", { class: "grid", x1: 0, x2: 100, y1: y, y2: y, "vector-effect": "non-scaling-stroke" }, this.svg);
    this.area = shape("path", { class: "fill" }, this.svg);
    this.line = shape("path", { class: "line forward", "vector-effect": "non-scaling-stroke" }, this.svg);
  }

  add(value) {
    const now = performance.now() / 1000;
    if (value !== null) this.points.push([now, value]);
    while (this.points.length && this.points[0][0] < now - this.seconds) this.points.shift();
    const screen = this.points.map(([t, v]) => [100 - ((now - t) / this.seconds) * 100, 39 - v * 38]);
    this.line.setAttribute("d", path(screen));
    this.area.setAttribute("d", screen.length ? `${path(screen)}L${screen.at(-1)[0].toFixed(1)} 39L${screen[0][0].toFixed(1)} 39Z` : "");
  }
}

/** A probability per step (null: not judged) under the strip of an attempt's steps; the last one is of the last observation. */
export function drawSteps(host, values) {
  const judged = values.map((value, i) => [i, value]).filter(([, value]) => value !== null);
  host.hidden = !judged.length;
  host.replaceChildren();
  if (!judged.length) return;
  const actions = Math.max(1, values.length - 1);
  const svg = shape("svg", { preserveAspectRatio: "none", viewBox: "0 0 100 40", role: "img", "aria-label": "P(success) in each step" }, host);
  for (const y of [1, 20, 39]) shape("line", { class: "grid", x1: 0, x2: 100, y1: y, y2: y, "vector-effect": "non-scaling-stroke" }, svg);
  const screen = judged.map(([i, value]) => [(100 * Math.min(i + 0.5, actions)) / actions, 39 - 38 * value]);
  shape("path", { class: "line forward", d: path(screen), "vector-effect": "non-scaling-stroke" }, svg);
}
