// What every exhibit is made of. Text goes in as text nodes, so nothing that a case, a prompt or a file is called can become markup.

const h = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
};

const svg = (tag, attributes = {}, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.flat(3));
  return node;
};

// Three digits, as everywhere in whydiff.
const figure = (value) => {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e5) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(3)));
};

// A difference in noise floors, in words: `3.2 floors`, `10⁷ floors`.
const power = (exponent) => [...String(exponent)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit] ?? "⁻").join("");
const floors = (times) => (times === null || times === undefined ? "" : times === 0 ? "equal" : times < 100 ? `${figure(times)} floors`
  : `10${power(Math.round(Math.log10(times)))} floors`);

let counter = 0;
const fresh = (word) => `wd-${word}-${++counter}-${Math.random().toString(36).slice(2, 7)}`;

const choice = (label, options, value, change) => {
  const select = h("select", { onchange: () => change(select.value) },
    options.map(([key, words]) => h("option", { value: key, selected: String(key) === String(value) }, words)));
  return { node: h("label", { class: "wd-field" }, h("span", {}, label), select), select };
};

// One of a few: radio buttons that look like tabs, because arrow keys and screen readers know radio buttons.
const tabs = (label, options, value, change) => {
  const name = fresh("tabs");
  return h("fieldset", { class: "wd-tabs" }, h("legend", {}, label), options.map(([key, words]) =>
    h("label", {}, h("input", { type: "radio", name, value: key, checked: key === value, onchange: () => change(key) }), h("span", {}, words))));
};

// A slider over a list with a button that plays it. `show(index)` is called at each move.
const player = (label, words, value, show, pause = 700) => {
  const said = h("output", { class: "wd-said" }, words[value] ?? "");
  let timer = null;
  const range = h("input", { type: "range", min: 0, max: Math.max(0, words.length - 1), step: 1, value, "aria-label": label,
    "aria-valuetext": words[value] ?? "", oninput: () => go(Number(range.value)) });
  const button = h("button", { type: "button", class: "wd-play", "aria-label": `play ${label}`, "aria-pressed": "false",
    onclick: () => (timer ? stop() : play()) }, "▶");
  const go = (index) => {
    range.value = index;
    range.setAttribute("aria-valuetext", words[index] ?? "");
    said.textContent = words[index] ?? "";
    show(index);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `play ${label}`);
  };
  const play = () => {
    if (Number(range.value) >= words.length - 1) go(0);
    button.textContent = "⏸";
    button.setAttribute("aria-pressed", "true");
    button.setAttribute("aria-label", `pause ${label}`);
    timer = setInterval(() => {
      if (!range.isConnected || Number(range.value) >= words.length - 1) return stop();
      go(Number(range.value) + 1);
    }, pause);
  };
  const node = h("div", { class: "wd-player" }, h("span", {}, label), button, range, said);
  return { node, go, stop };
};

// What the kernel says goes into `status`: an hourglass while it works, a cross where it failed.
const announce = (status, { text: words = "", busy = false, failed = false } = {}) => {
  status.textContent = words;
  status.className = `wd-status${busy ? " wd-busy" : ""}${failed ? " wd-failed" : ""}`;
};

// The colours of `stills.py`: lightness grows from low to high; differences are blue below, brown above, and grey where there is none.
const STOPS = [[0, 32, 77], [58, 73, 107], [124, 123, 120], [187, 175, 113], [255, 234, 70]];
const BELOW = [11, 78, 150], ABOVE = [160, 72, 0], NONE = [201, 201, 201], BROKEN = [214, 0, 147];

const sequential = (share) => {
  const place = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[low].map((value, i) => value + (place - low) * (STOPS[low + 1][i] - value));
};

const signed = (share) => {
  if (share === 0) return NONE;
  const end = share < 0 ? BELOW : ABOVE, size = Math.min(1, Math.abs(share));
  return end.map((value) => 255 + size * (value - 255));
};

// A bar that says what the colours mean.
const legend = (colour, from, to, words) => {
  const canvas = h("canvas", { width: 101, height: 1, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  for (let i = 0; i <= 100; i++) {
    context.fillStyle = `rgb(${colour(i / 100).map(Math.round).join(",")})`;
    context.fillRect(i, 0, 1, 1);
  }
  return h("div", { class: "wd-legend" }, h("span", {}, figure(from)), canvas, h("span", {}, figure(to)),
    words ? h("span", { class: "wd-soft" }, words) : null);
};

const signedLegend = (limit) => legend((x) => signed(x === 0.5 ? 1e-9 : 2 * x - 1), -limit, limit, "grey: exactly 0");

// JupyterLab takes arrow keys and letters for itself; inside an exhibit they belong to the exhibit.
const keepKeys = (node) => node.addEventListener("keydown", (event) => {
  if (!event.ctrlKey && !event.metaKey && event.key !== "Escape") event.stopPropagation();
});
