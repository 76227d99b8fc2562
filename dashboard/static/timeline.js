// The last ten minutes as a strip: forward attempts above, backward ones below, who acted underneath, waits for help across.

import { openEpisode } from "./episodes.js";

const REFRESH_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const LANES = { forward: [1, 15], backward: [18, 15] }; // top and height
const SOURCE = [36, 5];
const HEIGHT = 42;
const NEAR_PX = 10;
const WHO = { policy: "the policy", human: "a person", scripted: "a script" };

const host = document.getElementById("timeline");
let recent = null;
let status = null;
let replay = false;

function shape(name, attributes, parent, title) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (title) {
    const words = document.createElementNS(SVG, "title");
    words.textContent = title;
    element.append(words);
  }
  parent.append(element);
  return element;
}

function draw() {
  const width = host.clientWidth;
  if (!recent || !width) return;
  const { begin_ms: begin, end_ms: end, segments, help } = recent;
  const empty = !segments.length && !help.length;
  document.getElementById("timeline-empty").hidden = !empty;
  if (empty) return host.replaceChildren();
  const x = (ms) => ((Math.max(begin, Math.min(end, ms)) - begin) / (end - begin)) * width;
  const span = (from, to) => ({ x: x(from).toFixed(1), width: Math.max(1.5, x(to) - x(from) - 1).toFixed(1) });
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  for (const wait of help) {
    const words = `Waited for help: ${wait.reason}`;
    shape("rect", { class: "wait", ...span(wait.begin_ms, wait.end_ms ?? end), y: 0, height: HEIGHT, rx: 2 }, svg, words);
  }
  for (const s of segments) {
    const lane = LANES[s.phase];
    if (!lane) continue;
    const outcome = s.success === null ? "unknown" : s.success ? "ok" : "fail";
    const acted = Object.keys(s.sources).map((source) => WHO[source] ?? source).join(" and ");
    const words = `Attempt ${s.segment}, ${s.phase}: ${{ ok: "success", fail: "failure", unknown: "not judged" }[outcome]}${acted && `, by ${acted}`}. Click to look at it.`;
    const group = shape("g", { class: "attempt", "data-attempt": s.key }, svg, words);
    shape("rect", { class: `lane ${s.phase} ${outcome}`, ...span(s.begin_ms, s.end_ms), y: lane[0], height: lane[1], rx: 2 }, group);
    let from = s.begin_ms;
    const steps = Object.values(s.sources).reduce((sum, n) => sum + n, 0) || 1;
    for (const [source, count] of Object.entries(s.sources)) { // counts, not moments: the strip in the browser of attempts has those
      const to = from + ((s.end_ms - s.begin_ms) * count) / steps;
      shape("rect", { class: `who ${source}`, ...span(from, to), y: SOURCE[0], height: SOURCE[1] }, group);
      from = to;
    }
  }
  if (LANES[status?.mode] && !replay && status.loop_rate_hz) {
    const begun = end - (1000 * status.step_in_segment) / status.loop_rate_hz;
    const [top, height] = LANES[status.mode];
    if (x(end) - x(begun) > 3) shape("rect", { class: `lane now ${status.mode}`, ...span(begun, end), y: top, height, rx: 2 }, svg, `Attempt ${status.segment} goes on`);
  }
  host.replaceChildren(svg);
}

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch("/api/timeline", { signal: AbortSignal.timeout(4000) });
    if (response.ok) recent = await response.json();
    draw();
  } catch {
    // the page says itself that its server is gone
  }
}

/** What the newest snapshot says of the attempt that goes on. */
export function renderTimeline(snapshot) {
  status = snapshot.status;
  replay = Boolean(snapshot.run.replay);
  const right = document.getElementById("timeline-end");
  const words = replay ? "end of the run" : "now";
  if (right.textContent !== words) right.textContent = words;
}

// An attempt may be a pixel wide: a click opens the nearest one of the lane that it hits.
host.addEventListener("click", (event) => {
  if (!recent) return;
  const box = host.getBoundingClientRect();
  const perPixel = (recent.end_ms - recent.begin_ms) / box.width;
  const at = recent.begin_ms + (event.clientX - box.left) * perPixel;
  const y = event.clientY - box.top;
  const phase = Object.keys(LANES).find((name) => y < LANES[name][0] + LANES[name][1] + 1);
  const away = (s) => Math.max(0, s.begin_ms - at, at - s.end_ms) / perPixel;
  const near = recent.segments.filter((s) => (!phase || s.phase === phase) && away(s) < NEAR_PX).sort((a, b) => away(a) - away(b));
  if (near.length) openEpisode(near[0].key);
});
new ResizeObserver(draw).observe(host.parentElement);
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, REFRESH_MS);
refresh();
