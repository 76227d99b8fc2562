// The run's history as curves, drawn by uPlot (vendor/uplot, MIT): one zoom and one cursor for all charts.
// The data come whole from the server, which reads them from the run's files; so they survive a reload.

const REFRESH_MS = 10000;
const HEIGHT = 168;
const DASHES = [[], [7, 4], [2, 3], [8, 3, 2, 3]];

const host = document.getElementById("curves");
const whole = document.getElementById("curves-whole");
const charts = new Map(); // name -> { box, plot, shape }
let zoom = null; // minutes [from, to] that are shown, or null: all
let extent = [0, 1];
let newest = null;
let visible = false;

const number = (value) => (Math.abs(value) >= 10000 ? `${+(value / 1000).toPrecision(3)}k` : `${+value.toPrecision(3)}`);

function said(value, unit) {
  if (value === null || value === undefined) return "–";
  return unit === "share" ? `${Math.round(value * 100)}%` : `${number(value)}${unit && ` ${unit}`}`;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { forward: of("--accent"), backward: of("--second"), faint: of("--faint"), line: of("--line"), card: of("--card") };
}

function box(chart) {
  const figure = document.createElement("figure");
  figure.dataset.chart = chart.name;
  const title = document.createElement("figcaption");
  title.textContent = chart.title;
  const empty = document.createElement("p");
  empty.className = "empty-line";
  const area = document.createElement("div");
  area.className = "curve-area";
  figure.append(title, area, empty);
  host.append(figure);
  return { figure, area, empty };
}

/** Columns for uPlot: x, then y of every series, with low and high behind the y of those that have them. */
function table(chart) {
  const tables = chart.series.map((s) => (s.low ? [s.x, s.y, s.low, s.high] : [s.x, s.y]));
  return tables.length > 1 ? uPlot.join(tables) : tables[0];
}

function series(chart, colour) {
  const names = [...new Set(chart.series.map((s) => s.label.replace(s.phase, "").trim()))];
  const rows = [{ value: (_, v) => (v === null || v === undefined ? "–" : `${v.toFixed(1)} min`), label: "at" }];
  const bands = [];
  for (const one of chart.series) {
    const stroke = colour[one.phase] ?? colour.forward;
    const at = rows.length;
    const dash = DASHES[names.indexOf(one.label.replace(one.phase, "").trim()) % DASHES.length];
    const points = { show: one.x.length < 25, size: 5 };
    const value = (u, v, _, i) => {
      const interval = one.low && i !== null && v !== null && v !== undefined ? ` (${said(u.data[at + 1][i], chart.unit)} to ${said(u.data[at + 2][i], chart.unit)})` : "";
      return said(v, chart.unit) + interval;
    };
    rows.push({ label: one.label, stroke, width: 1.75, dash, points, spanGaps: true, value });
    if (one.low) {
      for (const label of ["low", "high"]) rows.push({ label, class: "bound", stroke: "transparent", width: 0, points: { show: false }, spanGaps: true });
      bands.push({ series: [at + 2, at + 1], fill: `color-mix(in srgb, ${stroke} 14%, transparent)` });
    }
  }
  return { rows, bands };
}

function plot(chart, area) {
  const colour = colours();
  const { rows, bands } = series(chart, colour);
  const axis = { stroke: colour.faint, font: "11px Inter, system-ui, sans-serif", grid: { stroke: colour.line, width: 1 }, ticks: { show: false } };
  const y = chart.unit === "share" ? { range: [0, 1] } : chart.name.includes("loss") ? {} : { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? 1.08 * high : 1] };
  return new uPlot({
    width: Math.max(120, area.clientWidth),
    height: HEIGHT,
    scales: { x: { time: false, range: () => zoom ?? extent }, y },
    series: rows,
    bands,
    axes: [
      { ...axis, size: 26, space: 60, values: (_, ticks) => ticks.map((v, i) => `${number(v)}${i === 0 ? " min" : ""}`) },
      { ...axis, size: 46, space: 34, values: (_, ticks) => ticks.map((v) => (chart.unit === "share" ? `${Math.round(v * 100)}%` : number(v))) },
    ],
    cursor: {
      y: false,
      sync: { key: "curves" },
      drag: { x: true, y: false, setScale: false },
      bind: { dblclick: () => () => show(null) },
      points: { size: 7 },
    },
    hooks: {
      setSelect: [(u) => {
        if (u.select.width < 4) return;
        const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
        u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        show(range);
      }],
    },
  }, table(chart), area);
}

/** Show these minutes in all charts; null: the whole run. */
function show(range) {
  zoom = range;
  whole.hidden = zoom === null;
  const [min, max] = zoom ?? extent;
  for (const { plot: drawn } of charts.values()) drawn?.setScale("x", { min, max });
}

function draw() {
  if (!newest || !host.clientWidth) return;
  const xs = newest.charts.flatMap((chart) => chart.series.flatMap((s) => (s.x.length ? [s.x[0], s.x.at(-1)] : [])));
  extent = xs.length ? [Math.min(0, ...xs), Math.max(1, ...xs)] : [0, 1];
  for (const chart of newest.charts) {
    const mine = charts.get(chart.name) ?? box(chart);
    charts.set(chart.name, mine);
    mine.empty.hidden = chart.series.length > 0;
    mine.empty.textContent = chart.empty;
    mine.area.hidden = !chart.series.length;
    const shape = chart.series.map((s) => s.label + (s.x.length < 25)).join();
    if (mine.shape !== shape) {
      mine.plot?.destroy();
      mine.plot = chart.series.length ? plot(chart, mine.area) : null;
      mine.shape = shape;
    } else mine.plot?.setData(table(chart));
    mine.figure.dataset.points = Math.max(0, ...chart.series.map((s) => s.x.length));
  }
}

async function refresh() {
  if (!visible || document.hidden) return;
  try {
    const response = await fetch("/api/curves", { signal: AbortSignal.timeout(8000) });
    if (!response.ok) return;
    newest = await response.json();
    draw();
  } catch {
    // the page says itself that its server is gone; these curves stay as they are until it is back
  }
}

function rebuild() {
  for (const mine of charts.values()) mine.shape = null;
  draw();
}

new IntersectionObserver(([entry]) => {
  const came = entry.isIntersecting && !visible;
  visible = entry.isIntersecting;
  if (came) refresh();
}, { rootMargin: "200px" }).observe(host.parentElement);
new ResizeObserver(() => {
  for (const { plot: drawn, area } of charts.values()) {
    if (drawn && area.clientWidth && drawn.width !== area.clientWidth) drawn.setSize({ width: area.clientWidth, height: HEIGHT });
  }
}).observe(host);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rebuild);
document.addEventListener("visibilitychange", refresh);
whole.addEventListener("click", () => show(null));
setInterval(refresh, REFRESH_MS);
