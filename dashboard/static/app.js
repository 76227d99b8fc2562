// The live connection and the commands: snapshots and pictures come over one WebSocket, commands go out as POSTs,
// so that the stop never waits behind video.

import "./curves.js";
import { toggleEpisodes } from "./episodes.js";
import { toggleFrames } from "./frames.js";
import { renderTimeline } from "./timeline.js";
import { giveBack, onKeys, renderTeleop, takeOver, taken } from "./teleop.js";
import { drawPicture, goesOn, render, renderLink } from "./view.js";
import { renderWords, speak } from "./words.js";

const decoder = new TextDecoder();
let retryMs = 500;
let latest = null;

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  let heard = performance.now();
  // a dead network closes nothing: without news for 4 s the connection counts as lost
  const watchdog = setInterval(() => performance.now() - heard > 4000 && socket.close(), 1000);

  socket.onmessage = async ({ data }) => {
    heard = performance.now();
    retryMs = 500;
    if (typeof data === "string") {
      const snapshot = JSON.parse(data);
      snapshot.history ??= latest?.history;
      latest = snapshot;
      renderLink("live");
      render(snapshot);
      renderTeleop(snapshot.status);
      renderWords(snapshot.status);
      renderTimeline(snapshot);
      return;
    }
    const bytes = new Uint8Array(data);
    const name = decoder.decode(bytes.subarray(1, 1 + bytes[0]));
    try {
      await drawPicture(name, new Blob([bytes.subarray(1 + bytes[0])], { type: "image/jpeg" }));
    } catch (error) {
      console.warn(`picture of ${name} cannot be shown`, error);
    }
    if (socket.readyState === WebSocket.OPEN) socket.send("drawn");
  };
  socket.onclose = ({ code, reason }) => {
    clearInterval(watchdog);
    renderLink("lost", retryMs, code === 1013 ? reason : "");
    setTimeout(connect, retryMs);
    retryMs = Math.min(retryMs * 1.7, 5000);
  };
}

const element = (id) => document.getElementById(id);

async function command(path, body) {
  let message = null;
  const asked = performance.now();
  try {
    const response = await fetch(`/api/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(6000),
    });
    const answer = await response.json();
    if (!answer.ok) message = answer.message;
  } catch (error) {
    message = `The page's server did not answer (${error.message}).`;
  }
  if (path === "software_stop" && body.active && message === null) {
    element("stop-trip").textContent = `It reached the robot in ${Math.round(performance.now() - asked)} ms.`;
  }
  element("notice-command").hidden = message === null;
  element("command-text").textContent = message ?? "";
  return message === null;
}

const stop = () => command("software_stop", { active: true });
element("stop").addEventListener("click", stop);
element("clear-stop").addEventListener("click", () => command("software_stop", { active: false }));
const pause = () => command("mode", { mode: goesOn(latest?.status) ? "pause" : "practise" });
element("pause").addEventListener("click", pause);
const speed = element("speed");
speed.addEventListener("input", () => (element("speed-text").textContent = `${speed.value}%`));
speed.addEventListener("change", () => command("speed", { share: speed.value / 100 }));
element("evaluate").addEventListener("click", () => command("mode", { mode: "evaluate" }));
for (const answer of ["reset", "continue", "skip", "take_over", "stop", "stuck", "not_stuck"]) {
  element(`help-${answer}`).addEventListener("click", () => command("help", { answer, operator: "page" }));
}
element("command-close").addEventListener("click", () => (element("notice-command").hidden = true));

element("success-forward").parentElement.addEventListener("click", ({ target }) => {
  if (!target.dataset.segment) return;
  const { segment, phase, outcome } = target.dataset;
  element("relabel").dataset.segment = segment;
  element("relabel-text").textContent = `Attempt ${segment}, ${phase}, counts as ${outcome}. It was a`;
  element("relabel").hidden = false;
});
for (const [id, success] of [["relabel-success", true], ["relabel-failure", false]]) {
  element(id).addEventListener("click", async () => {
    const segment = Number(element("relabel").dataset.segment);
    if (await command("label", { segment, success })) element("relabel").hidden = true;
  });
}
element("relabel-close").addEventListener("click", () => (element("relabel").hidden = true));

// --- shortcuts and the round trip -------------------------------------------------------------------------------------

const help = () => (element("shortcuts").open ? element("shortcuts").close() : element("shortcuts").showModal());
element("keys").addEventListener("click", help);
element("shortcuts-close").addEventListener("click", help);
onKeys({
  Space: stop,
  KeyT: () => (taken() ? giveBack() : takeOver()),
  Slash: speak,
  KeyP: () => !element("pause").disabled && pause(),
  KeyB: toggleEpisodes,
  KeyL: () => !element("open-frames").hidden && toggleFrames(),
  Help: help,
});

async function measure() {
  const asked = performance.now();
  try {
    await fetch("/api/ping", { cache: "no-store", signal: AbortSignal.timeout(2000) });
    element("trip").textContent = `${Math.round(performance.now() - asked)} ms`;
  } catch {
    element("trip").textContent = "";
  }
}
setInterval(measure, 2000);

connect();
