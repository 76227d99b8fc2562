// Puts a snapshot on the page. Text only ever goes in as text, never as HTML.

import { LearningCurve, Strip } from "./charts.js";
import { renderNodes } from "./nodes.js";

const element = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const curve = new LearningCurve(element("curve"));
const judgeStrip = new Strip(element("judge-plot"));
const contexts = new Map();
let drawnRevision = null;

function text(id, value) {
  const node = element(id);
  if (node.textContent !== value) node.textContent = value;
}

function make(tag, className, content, parent) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content;
  parent?.append(node);
  return node;
}

function clock(seconds) {
  const s = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

function ago(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  return seconds < 5400 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}

const percent = (rate) => (rate === null ? "–" : `${Math.round(rate * 100)}%`);

// --- connection -----------------------------------------------------------------------------------------------------

export function renderLink(state, retryMs = 0, reason = "") {
  document.body.dataset.link = state;
  text("link-text", state === "live" ? "Live" : "Connection lost");
  element("notice-link").hidden = state === "live";
  text("notice-link-text", `${reason && `${reason}. `}The robot goes on without this page. Trying again every ${(retryMs / 1000).toFixed(1)} s; what you see is old.`);
  for (const canvas of document.querySelectorAll("canvas")) canvas.classList.toggle("stale", state !== "live");
}

// --- pictures -------------------------------------------------------------------------------------------------------

export async function drawPicture(name, blob) {
  const canvas = name === "beauty" ? element("beauty") : document.querySelector(`canvas[data-camera="${CSS.escape(name)}"]`);
  if (!canvas) return;
  const bitmap = await createImageBitmap(blob);
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  if (!contexts.has(canvas)) contexts.set(canvas, canvas.getContext("2d", { alpha: false }));
  contexts.get(canvas).drawImage(bitmap, 0, 0);
  bitmap.close();
  canvas.dataset.pictures = Number(canvas.dataset.pictures ?? 0) + 1;
}

function renderCameras(cameras, run) {
  const names = Object.keys(cameras).filter((name) => name !== "beauty");
  const host = element("policy-cameras");
  if (host.dataset.names !== names.join()) {
    host.dataset.names = names.join();
    host.replaceChildren();
    for (const name of names) {
      const box = make("div", "camera", undefined, host);
      make("canvas", "", undefined, box).dataset.camera = name;
      make("span", "", `${name}, policy input`, box).title = name;
    }
  }
  for (const [name, age] of Object.entries(cameras)) {
    const canvas = name === "beauty" ? element("beauty") : host.querySelector(`canvas[data-camera="${CSS.escape(name)}"]`);
    canvas.classList.toggle("stale", age !== null && age > 5);
  }
  element("beauty-empty").hidden = cameras.beauty !== null;
  text("beauty-empty", run.replay ? "This run is stored. Its attempts can be browsed step by step: Attempts, or the key B." : `No picture yet. The view appears a few seconds after the actor has started. If it does not, its log says why: ${run.folder}/logs/actor.log`);
}

// --- parts ----------------------------------------------------------------------------------------------------------

function renderRun(run) {
  document.title = `${run.name} · Etude`;
  text("run-name", run.name);
  const words = [`${run.task} with ${run.robot}`, `${run.recipe} from ${run.observation}`, `seed ${run.seed}`];
  text("run-facts", words.join("  ·  "));
}

function stat(id, value, unit, note, bad = false) {
  const node = element(`stat-${id}`);
  const wanted = `${value}|${unit}`;
  if (node.dataset.shown !== wanted) {
    node.dataset.shown = wanted;
    node.textContent = value;
    node.classList.toggle("none", value === "–");
    if (unit && value !== "–") make("span", "", unit, node);
  }
  text(`stat-${id}-note`, note);
  node.parentElement.classList.toggle("bad", bad);
}

function renderStrip({ run, status: s, learner }) {
  const { updates, updates_per_s: rate } = learner.metrics;
  if (updates === undefined) stat("updates", "–", "", "no report yet");
  else stat("updates", rate === null ? "–" : rate >= 10 ? whole.format(rate) : rate.toFixed(1), "updates/s",
    learner.silent ? `silent for ${ago(learner.age_s)}` : `${whole.format(updates)} in total`, learner.silent);
  if (!s) return;
  stat("time", clock(s.practice_time_s), "", run.minutes ? `of ${Math.round(run.minutes * 10) / 10} min` : "of practice");
  stat("steps", whole.format(s.env_steps), "", `${whole.format(s.segment)} segments`);
  const practising = s.mode === "forward" || s.mode === "backward";
  const age = s.weight_age_s;
  if (s.policy_version) stat("weights", `v${s.policy_version}`, "", age === null ? "" : `${ago(age)} old`, practising && age > 60);
  else stat("weights", "none", "", "learner has sent none yet");
  if (s.loop_rate_hz === null || s.loop_rate_hz === 0) stat("loop", "–", "", practising ? "measuring" : "not practising");
  else {
    const late = run.pace === "realtime" && s.loop_rate_hz < 0.97 * run.control_rate_hz;
    const missed = s.missed_deadlines ? `, ${whole.format(s.missed_deadlines)} late` : "";
    const jitter = s.loop_period_p99_ms === null ? "" : `p99 ${s.loop_period_p99_ms.toFixed(0)} ms${missed}`;
    const paced = { learner: "as fast as learning allows", free: "as fast as it can" }[run.pace];
    stat("loop", s.loop_rate_hz.toFixed(1), "Hz", paced ?? jitter, late);
  }
  const free = learner.metrics["disk/free_gb"];
  const room = free === undefined || free === null ? "not yet on disk" : `${free.toFixed(free < 10 ? 1 : 0)} GB of disk left`;
  const unstored = s.outbox_pending > 2000;
  stat("outbox", whole.format(s.outbox_pending), "steps", unstored ? "learner is not storing" : room, unstored || free < 2);
  stat("help", whole.format(s.help_requests), "", `${whole.format(s.hard_resets)} scene resets`);
  const hours = s.practice_time_s / 3600;
  const perHour = s.interventions && hours > 1 / 60 ? `${(s.interventions / hours).toFixed(1)} per hour` : "take-overs";
  stat("interventions", whole.format(s.interventions), "", perHour);
}

function renderSpeed(s) {
  const slider = element("speed");
  slider.disabled = !s;
  if (!s || document.activeElement === slider) return; // a hand is on it
  slider.value = Math.round(100 * s.speed_limit);
  text("speed-text", `${slider.value}%`);
}

function renderStage({ run, status: s }) {
  renderSpeed(s);
  document.body.dataset.mode = s?.mode ?? "none";
  text("mode-text", s ? s.mode_words : "Waiting for the robot");
  const directed = s && (s.mode === "forward" || s.mode === "backward");
  const early = s?.mode === "idle" && !s.policy_version ? "practice begins when the learner has sent its first policy" : "";
  const message = s?.message || (directed ? run.instructions[s.mode] : early);
  text("instruction", message.charAt(0).toUpperCase() + message.slice(1));
  text("segment", directed ? `attempt ${whole.format(s.segment)}, step ${s.step_in_segment} of ${run.max_steps[s.mode]}` : "");
  element("segment-bar").style.width = directed ? `${Math.min(100, (100 * s.step_in_segment) / run.max_steps[s.mode])}%` : "0";
  const reasons = s?.holding ?? [];
  element("hold").hidden = !reasons.length || s.mode === "stopped";
  text("hold", `Holding: ${reasons.join(", ")}`);
}

function renderDirection(phase, { run, status: s, attempts }) {
  const host = element(`success-${phase}`);
  if (!host.firstChild) {
    const head = make("div", "head", undefined, host);
    make("b", "none", "–", head);
    make("span", "name", phase === "forward" ? "Forward" : "Backward", head).title = run.instructions[phase];
    make("span", "count", "", head);
    const bar = make("div", "wilson", undefined, host);
    make("i", "", undefined, bar);
    make("u", "", undefined, bar);
    const dots = make("div", "dots", undefined, host);
    for (let i = 0; i < 20; i++) make("button", "dot", undefined, dots).type = "button";
  }
  const rate = s?.success[phase];
  const known = rate && rate.attempts > 0;
  const big = host.querySelector("b");
  const shown = known ? String(Math.round(rate.rate * 100)) : "–";
  if (big.firstChild?.data !== shown) {
    big.textContent = shown;
    if (known) make("small", "", "%", big);
    big.classList.toggle("none", !known);
  }
  const truth = s?.success_truth[phase];
  let count = known ? `${rate.successes} of ${rate.attempts}` : "no attempt yet";
  if (known && run.reward === "classifier" && truth?.attempts) count += `, in truth ${truth.successes}`;
  host.querySelector(".count").textContent = count;
  host.querySelector(".count").title = known ? `${whole.format(rate.total_attempts)} attempts in all; 95% interval ${percent(rate.low)} to ${percent(rate.high)}` : "";
  const [interval, mark] = host.querySelector(".wilson").children;
  interval.style.left = known ? `${rate.low * 100}%` : "0";
  interval.style.width = known ? `${(rate.high - rate.low) * 100}%` : "0";
  mark.style.left = known ? `${rate.rate * 100}%` : "0";
  mark.hidden = !known;
  const dots = host.querySelectorAll(".dot");
  const picked = element("relabel").hidden ? null : element("relabel").dataset.segment;
  dots.forEach((dot, i) => {
    const attempt = attempts[phase][i];
    const outcome = !attempt ? "" : attempt.success === null ? "unknown" : attempt.success ? "ok" : "fail";
    dot.className = `dot ${outcome}`;
    const segment = attempt?.segment ?? null;
    if (segment === null) delete dot.dataset.segment;
    else Object.assign(dot.dataset, { segment, phase, outcome: { ok: "a success", fail: "a failure", unknown: "unknown" }[outcome] });
    dot.disabled = segment === null;
    dot.title = segment === null ? "" : `Attempt ${segment}: click to correct its label`;
    dot.setAttribute("aria-label", !attempt ? "no attempt" : `${segment === null ? "attempt" : `attempt ${segment}`}: ${outcome}`);
    dot.setAttribute("aria-pressed", String(segment !== null && String(segment) === picked));
  });
}

function renderJudge({ run, status: s }) {
  const learned = run.reward === "classifier";
  element("judge-body").hidden = !learned;
  element("judge-empty").hidden = learned;
  text("judge-empty", "This run is rewarded by the environment's own ground truth; no classifier is involved.");
  element("open-frames").hidden = !learned || Boolean(run.replay);
  if (!learned) return;
  text("judge-note", !s?.judge.outcomes ? (run.simulated ? "by the simulator's truth" : "") : `by truth, ${whole.format(s.judge.outcomes)} attempts`);
  for (const name of ["precision", "recall"]) {
    text(`judge-${name}`, percent(s?.judge[name] ?? null));
    element(`judge-${name}`).classList.toggle("none", (s?.judge[name] ?? null) === null);
  }
  text("judge-false", falsePositives(s?.judge));
  element("judge-false").hidden = !falsePositives(s?.judge);
  const probability = s?.judge_probability ?? null;
  text("judge-probability", probability === null ? "–" : probability.toFixed(2));
  judgeStrip.add(probability);
}

/** How often failures were called success: by the labels given on this page, beside the simulator's truth. */
function falsePositives(judge) {
  const told = [];
  const by = judge?.labelled;
  if (by) told.push(`${percent(by.rate)} by ${whole.format(by.labels)} label${by.labels === 1 ? "" : "s"} (${percent(by.low)} to ${percent(by.high)})`);
  if ((judge?.false_positive_rate ?? null) !== null) told.push(`${percent(judge.false_positive_rate)} in truth`);
  return told.length ? `False positives: ${told.join(", ")}` : "";
}

function renderJournal(journal) {
  const host = element("journal");
  element("journal-empty").hidden = journal.length > 0;
  const wanted = journal.map((note) => note.at + note.text).join();
  if (host.dataset.shown !== wanted) {
    host.dataset.shown = wanted;
    host.replaceChildren();
    for (const note of journal) {
      const row = make("li", `note-${note.kind}`, undefined, host);
      make("time", "", "", row);
      make("i", "", undefined, row);
      make("span", "", note.text, row);
    }
  }
  journal.forEach((note, i) => {
    const time = host.children[i].firstChild;
    const words = note.age_s < 5 ? "now" : ago(note.age_s);
    if (time.textContent !== words) time.textContent = words;
  });
}

function renderNotices({ run, actor, status: s, help }) {
  element("notice-stop").hidden = s?.mode !== "stopped";
  element("notice-help").hidden = !help || s?.mode === "stopped";
  if (help) {
    text("help-reason", help.reason);
    text("help-meanwhile", help.meanwhile);
    text("help-reset", run.simulated ? "Reset the scene" : "I have reset the scene");
    const image = element("help-image");
    image.hidden = !help.image;
    if (help.image && image.src !== help.image) image.src = help.image;
    text("help-question", help.question);
    element("help-question").hidden = !help.question;
    for (const answer of ["stuck", "not_stuck"]) element(`help-${answer}`).hidden = !help.question;
    element("notice-help").classList.toggle("danger", help.level >= 2);
    text("help-age", `Asked ${ago(Math.max(0, Date.now() / 1000 - help.stamp_ns / 1e9))} ago.`);
  }
  element("notice-silent").hidden = !actor.silent;
  text("silent-title", s ? `The robot's actor has been silent for ${ago(actor.age_s)}.` : "No actor has reported yet.");
  text("silent-text", s
    ? `If it does not come back, read ${run.folder}/logs/actor.log, and resume with: etude practice resume ${run.folder}`
    : `It starts together with the run: etude practice run. Its log is ${run.folder}/logs/actor.log`);
}

// A lost takeover goes on only by a person's word: then the button says Resume.
export const goesOn = (s) =>
  ["forward", "backward", "takeover", "evaluating", "awaiting_help"].includes(s?.mode) && !(s.mode === "takeover" && s.authority === "hold");

function renderControls({ run, status: s }) {
  if (run.replay) return; // nothing can be commanded, and the controls are not shown
  const running = goesOn(s);
  const pause = element("pause");
  text("pause", running || !s ? "Pause" : s.mode === "idle" ? "Start" : "Resume");
  pause.disabled = !s || s.mode === "stopped";
  element("evaluate").disabled = !s || !["forward", "backward", "paused", "idle"].includes(s.mode);
}

// --- all of it ------------------------------------------------------------------------------------------------------

export function render(snapshot) {
  document.body.classList.toggle("replay", Boolean(snapshot.run.replay));
  if (snapshot.run.replay) text("link-text", "Stored run");
  renderRun(snapshot.run);
  renderNotices(snapshot);
  renderStrip(snapshot);
  renderStage(snapshot);
  renderCameras(snapshot.cameras, snapshot.run);
  renderDirection("forward", snapshot);
  renderDirection("backward", snapshot);
  renderJudge(snapshot);
  renderNodes(snapshot.nodes);
  renderJournal(snapshot.journal);
  renderControls(snapshot);
  if (drawnRevision !== snapshot.revision && snapshot.history) {
    drawnRevision = snapshot.revision;
    const every = snapshot.run.evaluation_interval_s;
    curve.update(snapshot.history, every
      ? `The first points appear when the policy has been evaluated: before practice, and every ${every} s of it.`
      : "Short evaluations are switched off in this run (evaluation.interval_episodes=0); the curve shows practice success once attempts finish.");
  }
}

for (const [id, axis] of [["axis-time", "time"], ["axis-steps", "steps"]]) {
  element(id).addEventListener("click", () => {
    curve.setAxis(axis);
    element("axis-time").setAttribute("aria-pressed", String(axis === "time"));
    element("axis-steps").setAttribute("aria-pressed", String(axis === "steps"));
  });
}
