// Taking over from the page: what is held on keyboard, pad and buttons goes out 20 times a second on a connection of its own.
// Nothing moves unless something is held; a hidden page, a lost focus and a lost connection let go of everything.

const PERIOD_MS = 50;
const SILENT_MS = 1000; // a dead network closes nothing: without an echo for this long the connection counts as lost
const MOTION = ["KeyW", "KeyS", "KeyA", "KeyD", "KeyE", "KeyQ", "ArrowLeft", "ArrowRight", "KeyO", "KeyC"];
const SAID = [...MOTION, "Enter", "Backspace", "KeyR"];

const element = (id) => document.getElementById(id);
const held = new Set();
let pad = [0, 0];
let socket = null;
let timer = null;
let operator = "";

export const taken = () => socket !== null;

function say(isTaken) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ taken: isTaken, keys: isTaken ? [...held].slice(0, 16) : [], pad: isTaken ? pad : [0, 0], t_ms: performance.now() }));
}

function letGo() {
  held.clear();
  pad = [0, 0];
  for (const button of document.querySelectorAll("[data-key].down")) button.classList.remove("down");
  element("pad-knob").style.transform = "";
  say(true);
}

export function takeOver() {
  if (socket || element("takeover").disabled) return;
  letGo();
  const mine = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/teleop`);
  socket = mine;
  let heard = performance.now();
  const lost = () => {
    if (socket !== mine) return; // given back, or known already
    end();
    mine.close();
    element("notice-teleop").hidden = false;
  };
  timer = setInterval(() => (performance.now() - heard > SILENT_MS ? lost() : say(true)), PERIOD_MS);
  mine.onopen = () => say(true);
  mine.onmessage = ({ data }) => {
    heard = performance.now();
    const message = JSON.parse(data);
    if (message.operator) operator = `${message.operator} (browser)`;
    else element("teleop-trip").textContent = `${Math.round(performance.now() - message.t_ms)} ms`;
  };
  mine.onclose = lost;
  element("notice-teleop").hidden = true;
  show();
}

export function giveBack() {
  if (!socket) return;
  const mine = socket;
  say(false);
  end();
  mine.close();
}

function end() {
  clearInterval(timer);
  socket = null;
  letGo();
  show();
}

function show() {
  document.body.classList.toggle("taken", taken());
  element("teleop").hidden = !taken();
  element("takeover").textContent = taken() ? "Give back" : "Take over";
  element("takeover").setAttribute("aria-pressed", String(taken()));
}

// What the actor says about it.
export function renderTeleop(s) {
  if (taken() && s?.mode === "stopped") giveBack();
  // words give way to hands
  const other = s?.authority === "human" && s.operator_name !== operator && !s.operator_name.endsWith("(words)");
  element("takeover").disabled = !taken() && (!s || other || ["stopped", "evaluating"].includes(s.mode));
  element("takeover").title = other ? `${s.operator_name} has control` : "T: take over and give back";
  const yours = s?.authority === "human" && s.operator_name === operator;
  element("teleop-state").textContent = !taken() ? "" : yours ? "You have control" : other ? `${s.operator_name} has control` : "Taking over … if this stays, actor.log says why";
}

// --- keyboard -------------------------------------------------------------------------------------------------------

export function onKeys(shortcuts) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (taken()) letGo(); // with Meta held, macOS does not say which keys are let go
      return;
    }
    if (taken() && SAID.includes(event.code)) {
      event.preventDefault();
      if (!event.repeat && !held.has(event.code)) {
        held.add(event.code);
        say(true); // at once, so that a short tap is not missed
      }
      return;
    }
    const action = event.key === "?" ? shortcuts.Help : shortcuts[event.code];
    if (!action) return;
    event.preventDefault();
    if (!event.repeat) action();
  });
  addEventListener("keyup", (event) => {
    if (event.code === "Space") event.preventDefault(); // the stop's key presses no button
    if (held.delete(event.code)) say(true);
  });
  addEventListener("blur", letGo);
  document.addEventListener("visibilitychange", () => document.hidden && letGo());
}

// --- pointer and touch ----------------------------------------------------------------------------------------------

for (const button of document.querySelectorAll("[data-key]")) {
  const release = () => {
    button.classList.remove("down");
    if (held.delete(button.dataset.key)) say(true);
  };
  button.addEventListener("pointerdown", (event) => {
    button.setPointerCapture(event.pointerId);
    button.classList.add("down");
    held.add(button.dataset.key);
    say(true);
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(kind, release);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
}

const surface = element("pad");
function aim(event) {
  const box = surface.getBoundingClientRect();
  const limit = (value) => Math.max(-1, Math.min(1, value));
  pad = [limit((2 * (event.clientX - box.left)) / box.width - 1), limit(1 - (2 * (event.clientY - box.top)) / box.height)];
  element("pad-knob").style.transform = `translate(${pad[0] * 36}px, ${-pad[1] * 36}px)`;
}
surface.addEventListener("pointerdown", (event) => {
  surface.setPointerCapture(event.pointerId);
  aim(event);
  say(true);
});
surface.addEventListener("pointermove", (event) => surface.hasPointerCapture(event.pointerId) && aim(event));
for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
  surface.addEventListener(kind, () => {
    pad = [0, 0];
    element("pad-knob").style.transform = "";
    say(true);
  });
}

element("takeover").addEventListener("click", () => (taken() ? giveBack() : takeOver()));
element("teleop-close").addEventListener("click", () => (element("notice-teleop").hidden = true));
