// Several runs side by side: a tile each, asked for again and again. Text only ever goes in as text, never as HTML.

const PERIOD_MS = 350;
const PHASES = ["forward", "backward"];
const host = document.getElementById("tiles");
const tiles = [];

function make(tag, className, content, parent) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content;
  parent?.append(node);
  return node;
}

function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

async function stop(index, active) {
  let message = "";
  try {
    const response = await fetch(`/api/tiles/${index}/software_stop`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ active }),
      signal: AbortSignal.timeout(8000),
    });
    const answer = await response.json();
    if (!answer.ok) message = answer.message;
  } catch (error) {
    message = `This page's server did not answer (${error.message}).`;
  }
  if (!message) return;
  document.getElementById("notice").hidden = false;
  document.getElementById("notice-text").textContent = message;
}

function build(index) {
  const tile = make("section", "tile card", undefined, host);
  const head = make("div", "tile-head", undefined, tile);
  const name = make("a", "tile-name", "", head);
  const facts = make("span", "tile-facts", "", head);
  const views = make("div", "tile-views", undefined, tile);
  const mode = make("span", "mode", undefined, views);
  make("i", "", undefined, mode);
  const words = make("span", "", "", mode);
  const empty = make("div", "empty", "", views);
  const pictures = make("div", "tile-pictures", undefined, views);
  const help = make("p", "tile-help", "", tile);
  const rates = make("div", "tile-rates", undefined, tile);
  const rows = PHASES.map((phase) => {
    const row = make("div", `direction ${phase}`, undefined, rates);
    const label = make("div", "head", undefined, row);
    const rate = make("b", "none", "–", label);
    make("span", "name", phase === "forward" ? "Forward" : "Backward", label);
    const count = make("span", "count", "", label);
    const bar = make("div", "wilson", undefined, row);
    return { rate, count, interval: make("i", "", undefined, bar), mark: make("u", "", undefined, bar) };
  });
  const foot = make("div", "tile-foot", undefined, tile);
  const numbers = make("span", "quiet", "", foot);
  const clear = make("button", "button", "Clear the stop", foot);
  const button = make("button", "button stop", "Software stop", foot);
  for (const one of [clear, button]) one.type = "button";
  button.addEventListener("click", () => stop(index, true));
  clear.addEventListener("click", () => stop(index, false));
  tiles[index] = { tile, name, facts, words, empty, pictures, help, rows, numbers, clear, images: new Map() };
}

function show(index, t) {
  if (!tiles[index]) build(index);
  const my = tiles[index];
  my.tile.dataset.mode = t.mode ?? "none";
  my.tile.classList.toggle("away", Boolean(t.problem || t.silent));
  text(my.name, t.name);
  if (t.link && my.name.href !== t.link) my.name.href = t.link;
  text(my.facts, [t.task, t.robot].filter(Boolean).join(" with "));
  text(my.words, t.problem ? "No connection" : t.silent ? "The actor is silent" : t.mode_words ?? "Waiting for the robot");
  const cameras = Object.keys(t.cameras).sort((a, b) => (b === "beauty") - (a === "beauty"));
  my.empty.hidden = cameras.length > 0 && !t.problem;
  text(my.empty, t.problem || "No picture yet.");
  for (const camera of cameras) {
    if (!my.images.has(camera)) {
      const image = make("img", camera === "beauty" ? "wide" : "", undefined, my.pictures);
      image.alt = `camera ${camera}`;
      my.images.set(camera, image);
    }
    const image = my.images.get(camera);
    const number = String(t.cameras[camera]);
    if (image.dataset.number === number || (image.src && !image.complete)) continue; // the one before is still on its way
    image.dataset.number = number;
    image.src = `/api/tiles/${index}/${encodeURIComponent(camera)}.jpg?n=${number}`;
  }
  const waited = t.help ? Math.max(0, (Date.now() - t.help.asked_ms) / 1000) : 0;
  text(my.help, t.help ? `${t.help.reason} Asked ${waited < 60 ? `${Math.floor(waited)} s` : clock(waited)} ago.` : t.message || "No help needed.");
  my.help.classList.toggle("asked", Boolean(t.help));
  PHASES.forEach((phase, i) => {
    const rate = t.success?.[phase];
    const known = Boolean(rate?.attempts);
    const row = my.rows[i];
    text(row.rate, known ? `${Math.round(rate.rate * 100)}%` : "–");
    row.rate.classList.toggle("none", !known);
    text(row.count, known ? `${rate.successes} of ${rate.attempts}` : "no attempt yet");
    row.interval.style.left = known ? `${rate.low * 100}%` : "0";
    row.interval.style.width = known ? `${(rate.high - rate.low) * 100}%` : "0";
    row.mark.style.left = known ? `${rate.rate * 100}%` : "0";
    row.mark.hidden = !known;
  });
  const facts = t.practice_time_s === null || t.practice_time_s === undefined ? [] : [clock(t.practice_time_s)];
  if (t.loop_rate_hz) facts.push(`${t.loop_rate_hz.toFixed(1)} Hz`);
  if (t.policy_version) facts.push(`policy v${t.policy_version}`);
  text(my.numbers, facts.join("  ·  "));
  my.clear.hidden = t.mode !== "stopped";
}

async function refresh() {
  try {
    const response = await fetch("/api/tiles", { signal: AbortSignal.timeout(4000) });
    const all = await response.json();
    all.forEach((t, i) => show(i, t));
    while (tiles.length > all.length) tiles.pop().tile.remove(); // the server was started again with fewer runs
    document.body.dataset.link = "live";
    text(document.getElementById("link-text"), "Live");
    const waiting = all.filter((t) => t.help).length;
    text(document.getElementById("count"), `${all.length} run${all.length === 1 ? "" : "s"}${waiting ? `, ${waiting} waiting for help` : ""}`);
  } catch {
    document.body.dataset.link = "lost";
    text(document.getElementById("link-text"), "Connection lost");
  }
  setTimeout(refresh, document.hidden ? 2000 : PERIOD_MS);
}

document.getElementById("stop-all").addEventListener("click", () => tiles.forEach((_, index) => stop(index, true)));
document.getElementById("notice-close").addEventListener("click", () => (document.getElementById("notice").hidden = true));
refresh();
