// The label queue: one frame after another that the reward classifier called success or is unsure about, for a person to judge.

import { taken } from "./teleop.js";

const element = (id) => document.getElementById(id);
const dialog = element("frames");
const KINDS = { positive: "the classifier called this success", doubtful: "the classifier is unsure about this" };

let queue = [];
let busy = false;

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(`/api/${path}`, { ...options, signal: AbortSignal.timeout(60000) });
  const answer = await response.json();
  if (!answer.ok) throw new Error(answer.message ?? response.statusText);
  return answer;
}

function complain(error) {
  element("frames-problem").textContent = error ? error.message : "";
  element("frames-problem").hidden = !error;
}

const percent = (share) => `${Math.round(100 * share)}%`;
const interval = ({ rate, low, high }) => `${percent(rate)} (${percent(low)} to ${percent(high)})`;

async function fetchQueue() {
  try {
    const told = await ask("frames");
    queue = told.questions;
    const { by_labels: labels, by_truth: truth } = told;
    const rates = [
      labels && `${interval(labels)} by ${labels.labels} label${labels.labels === 1 ? "" : "s"}`,
      truth && `${interval(truth)} by the simulator's truth, ${truth.failures} failures`,
    ].filter(Boolean);
    element("frames-rate").textContent = rates.length ? `Failures that were called success: ${rates.join("; ")}` : "";
    element("frames-count").textContent = told.answered ? `${told.answered} answered` : "";
    complain(null);
  } catch (error) {
    queue = [];
    complain(error);
  }
  show();
}

function show() {
  const [frame] = queue;
  element("frames-body").hidden = !frame;
  element("frames-empty").hidden = Boolean(frame) || !element("frames-problem").hidden;
  if (!frame) return;
  dialog.dataset.frame = `${frame.key} ${frame.row}`;
  element("frames-title").textContent = frame.instruction;
  const facts = [frame.phase, `attempt ${frame.segment}, step ${frame.row}`, `P(success) ${frame.probability.toFixed(2)}`, KINDS[frame.kind]];
  element("frames-facts").textContent = facts.join("  ·  ");
  const pictures = frame.cameras.map((camera) => {
    const figure = document.createElement("figure");
    const image = document.createElement("img");
    image.src = `/api/episodes/${encodeURIComponent(frame.key)}/${encodeURIComponent(camera)}/${frame.row}.jpg`;
    image.alt = `what camera ${camera} showed`;
    const caption = document.createElement("figcaption");
    caption.textContent = camera;
    figure.append(image, caption);
    return figure;
  });
  element("frames-pictures").replaceChildren(...pictures);
}

async function say(success) {
  const [frame] = queue;
  if (!frame || busy) return;
  busy = true;
  try {
    await ask("frame_label", { key: frame.key, row: frame.row, success });
    complain(null);
  } catch (error) {
    complain(error);
  }
  busy = false;
  queue.shift(); // also one that was labelled elsewhere meanwhile
  show();
  if (element("frames-problem").hidden && (!queue.length || success !== null)) await refresh();
}

/** The rates after an answer, and more frames after the last one; those at hand stay in their order. */
async function refresh() {
  const left = queue;
  await fetchQueue();
  if (left.length && element("frames-problem").hidden) {
    queue = left;
    show();
  }
}

export function toggleFrames() {
  if (dialog.open) return dialog.close();
  dialog.show(); // not modal: the software stop above it stays within reach
  element("frames-body").focus();
  fetchQueue();
}

for (const [id, success] of [["success", true], ["failure", false], ["skip", null]]) {
  element(`frames-${id}`).addEventListener("click", () => say(success));
}
element("open-frames").addEventListener("click", toggleFrames);
element("frames-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (taken() || event.ctrlKey || event.metaKey || event.altKey) return; // the keys move the robot then
  const move = { Escape: () => dialog.close(), KeyY: () => say(true), KeyN: () => say(false), KeyS: () => say(null) }[event.code];
  if (!move) return;
  event.preventDefault();
  event.stopPropagation();
  if (!event.repeat) move();
});
