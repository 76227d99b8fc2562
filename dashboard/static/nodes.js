// What the run's nodes say of themselves: a line each, worst first, and their numbers behind it.

const element = (id) => document.getElementById(id);
const WORST_FIRST = ["error", "warn", "stale", "ok"];
const WORDS = { ok: "well", warn: "warns", error: "has failed", stale: "is silent" };

function make(tag, className, content, parent) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.textContent = content;
  parent.append(node);
  return node;
}

function put(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

function lineOf(name) {
  const line = document.createElement("details");
  line.dataset.node = name;
  const head = make("summary", "", "", line);
  make("i", "", "", head);
  make("b", "", name, head);
  make("span", "", "", head);
  make("dl", "", "", line);
  return line;
}

export function renderNodes(nodes) {
  element("nodes-card").hidden = !nodes?.length;
  if (!nodes?.length) return;
  const host = element("nodes");
  const order = [...nodes].sort((a, b) => WORST_FIRST.indexOf(a.level) - WORST_FIRST.indexOf(b.level) || a.name.localeCompare(b.name));
  const wanted = order.map((node) => node.name);
  const lines = new Map([...host.children].map((line) => [line.dataset.node, line]));
  if ([...lines.keys()].join("\n") !== wanted.join("\n")) host.replaceChildren(...wanted.map((name) => lines.get(name) ?? lineOf(name)));
  for (const [i, node] of order.entries()) {
    const line = host.children[i];
    line.className = node.level;
    line.firstChild.title = `${node.name} ${WORDS[node.level] ?? node.level}`;
    put(line.querySelector("span"), node.level === "stale" ? `silent for ${Math.floor(node.age_s)} s` : node.message);
    if (!line.open) continue;
    const list = line.querySelector("dl");
    const keys = Object.keys(node.values);
    if (list.dataset.keys !== keys.join()) {
      list.dataset.keys = keys.join();
      list.replaceChildren();
      for (const key of keys) {
        make("dt", "", key, list);
        make("dd", "", "", list);
      }
    }
    keys.forEach((key, k) => put(list.children[2 * k + 1], node.values[key]));
  }
}
