// The stored attempts of the run: a list, and one attempt at a time with its pictures and a strip that says who acted when.

import { drawSteps } from "./charts.js";
import { taken } from "./teleop.js";

const element = (id) => document.getElementById(id);
const dialog = element("episodes");
const list = element("episode-list");
const SOURCES = { policy: "the policy", human: "a person", scripted: "a script" };
const PLAY_MS = 100;

let shown = null; // the attempt that is looked at, as the server told it
let step = 0;
let playing = 0;
let oldest = null;

function make(tag, className, content, parent) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content;
  parent?.append(node);
  return node;
}

async function ask(path) {
  const response = await fetch(`/api/${path}`, { signal: AbortSignal.timeout(8000) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message ?? response.statusText);
  return answer;
}

function complain(error) {
  element("episode-problem").textContent = error ? `The attempts cannot be shown: ${error.message}` : "";
  element("episode-problem").hidden = !error;
}

const outcome = (success) => (success === null ? "not judged" : success ? "success" : "failure");

// --- the list -----------------------------------------------------------------------------------------------------------

async function more(fresh, wanted) {
  try {
    const answer = await ask(`episodes${oldest && !fresh ? `?before=${encodeURIComponent(oldest)}` : ""}`);
    if (fresh) list.replaceChildren();
    for (const attempt of answer.attempts) list.append(row(attempt));
    oldest = answer.attempts.at(-1)?.key ?? oldest;
    element("episode-more").hidden = !answer.more;
    element("episode-count").textContent = answer.total ? `${answer.total} stored` : "";
    element("episode-empty").hidden = answer.total > 0;
    complain(null);
    if (fresh && answer.attempts.length) await show(wanted ?? answer.attempts[0].key);
  } catch (error) {
    complain(error);
  }
}

function row(attempt) {
  const button = make("button", `episode ${attempt.phase}`);
  button.type = "button";
  button.dataset.attempt = attempt.key;
  make("i", attempt.success === null ? "unknown" : attempt.success ? "ok" : "fail", undefined, button);
  make("b", "", `${attempt.segment}`, button);
  make("span", "", `${attempt.phase}, ${outcome(attempt.success)}`, button);
  const human = attempt.sources.human ?? attempt.sources.HUMAN ?? 0;
  const when = new Date(attempt.stamp_ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  make("small", "", `${attempt.steps} steps${human ? `, ${human} by a person` : ""} · ${when}`, button);
  if (attempt.success_truth !== null && attempt.success !== null && attempt.success !== attempt.success_truth) {
    make("em", "", attempt.success ? "falsely counted" : "missed", button).title = "The judge and the simulator's truth differ";
  }
  return button;
}

list.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (button) show(button.dataset.attempt);
});
element("episode-more").addEventListener("click", () => more(false));

// --- one attempt --------------------------------------------------------------------------------------------------------

async function show(key) {
  pause();
  try {
    shown = await ask(`episodes/${encodeURIComponent(key)}`);
    complain(null);
  } catch (error) {
    complain(error);
    return;
  }
  for (const button of list.children) {
    const current = button.dataset.attempt === key;
    button.setAttribute("aria-current", current);
    if (current) button.scrollIntoView({ block: "nearest" });
  }
  const { phase, segment, instruction, success, judged_by: judge, cameras, sources } = shown;
  element("episode-title").textContent = `Attempt ${segment}, ${phase}: ${outcome(success)}`;
  element("episode-facts").textContent = [instruction, `policy v${shown.policy_version[0]}`, judge && `judged by ${judge}`].filter(Boolean).join("  ·  ");
  const host = element("episode-pictures");
  host.replaceChildren();
  for (const camera of cameras) {
    const figure = make("figure", "", undefined, host);
    const image = make("img", "", undefined, figure);
    image.dataset.camera = camera;
    image.alt = `what camera ${camera} showed`;
    make("figcaption", "", camera, figure);
  }
  if (!cameras.length) make("p", "empty-line", "This run observes poses and stores no pictures; the strip below shows its steps.", host);
  const strip = element("episode-strip");
  strip.replaceChildren(...sources.map((source, i) => {
    const mark = make("i", `source ${source}`);
    mark.dataset.step = i;
    return mark;
  }));
  drawSteps(element("episode-probability"), shown.probability);
  element("episode-slider").max = shown.reward.length - 1;
  go(0);
}

function go(to) {
  if (!shown) return;
  const last = shown.reward.length - 1;
  step = Math.max(0, Math.min(last, to));
  element("episode-slider").value = step;
  for (const image of element("episode-pictures").querySelectorAll("img")) {
    image.src = `/api/episodes/${encodeURIComponent(shown.key)}/${encodeURIComponent(image.dataset.camera)}/${step}.jpg`;
  }
  for (const mark of element("episode-strip").children) mark.classList.toggle("now", Number(mark.dataset.step) === step);
  const probability = shown.probability[step];
  const words = [
    `step ${step} of ${last}`,
    `${shown.seconds[step].toFixed(1)} s`,
    step < last ? `${SOURCES[shown.sources[step]] ?? shown.sources[step]} acts` : "the last observation",
    `reward ${Number(shown.reward[step].toFixed(3))}`,
    probability === null ? "" : `P(success) ${probability.toFixed(2)}`,
  ];
  element("episode-step").textContent = words.filter(Boolean).join("  ·  ");
}

function pause() {
  clearInterval(playing);
  playing = 0;
  element("episode-play").textContent = "Play";
}

function play() {
  if (playing) return pause();
  if (step >= (shown?.reward.length ?? 1) - 1) go(0);
  element("episode-play").textContent = "Pause";
  playing = setInterval(() => (step >= shown.reward.length - 1 ? pause() : go(step + 1)), PLAY_MS);
}

element("episode-play").addEventListener("click", play);
element("episode-slider").addEventListener("input", ({ target }) => {
  pause();
  go(Number(target.value));
});
element("episode-strip").addEventListener("click", ({ target }) => target.dataset.step && go(Number(target.dataset.step)));

// --- opening and closing ------------------------------------------------------------------------------------------------

export function toggleEpisodes() {
  if (dialog.open) return dialog.close();
  dialog.show(); // not modal: the software stop above it stays within reach
  oldest = null;
  more(true);
}

/** The attempt with this key, wherever in the list it is. */
export function openEpisode(key) {
  if (!dialog.open) dialog.show();
  oldest = null;
  more(true, key);
}

element("open-episodes").addEventListener("click", toggleEpisodes);
element("episodes-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", pause);
dialog.addEventListener("keydown", (event) => {
  if (taken() || (event.target.matches("input") && event.code.startsWith("Arrow"))) return; // the keys move the robot then
  const move = { Escape: () => dialog.close(), ArrowLeft: () => go(step - 1), ArrowRight: () => go(step + 1), KeyK: play, ArrowDown: () => neighbour(1), ArrowUp: () => neighbour(-1) }[event.code];
  if (!move) return;
  event.preventDefault();
  event.stopPropagation();
  move();
});

function neighbour(by) {
  const rows = [...list.children];
  const at = rows.findIndex((button) => button.dataset.attempt === shown?.key);
  const next = rows[at + by];
  if (!next) return;
  next.scrollIntoView({ block: "nearest" });
  show(next.dataset.attempt);
}
