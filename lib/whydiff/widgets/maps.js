// The values of one place: reference, candidate and their difference side by side, as maps, a picture, a curve or numbers.

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// Bytes of a place, decoded once. What is equal was sent once.
const decoded = (item) => (item.decoded ??= {
  reference: bytes(item.reference),
  candidate: item.candidate ? bytes(item.candidate) : item.equal ? bytes(item.reference) : null,
  difference: item.difference ? bytes(item.difference) : item.equal ? new Uint8Array(item.labels.length * item.rows * item.columns).fill(128) : null,
});

// The value behind a byte (see maps.py); null where it was not finite.
const valueOf = (item, role, code) => (code === 0 ? null : role === "difference" ? ((code - 128) / 127) * item.limit
  : item.low + ((code - 1) / 254) * (item.high - item.low));

const paint = (canvas, item, role, channel, scale) => {
  const [low, high, limit] = scale ?? [item.low, item.high, item.limit];
  const size = item.rows * item.columns, codes = decoded(item)[role];
  canvas.width = item.columns;
  canvas.height = item.rows;
  const context = canvas.getContext("2d"), image = context.createImageData(item.columns, item.rows);
  for (let i = 0; i < size; i++) {
    const value = codes ? valueOf(item, role, codes[channel * size + i]) : null;
    const colour = value === null ? BROKEN : role === "difference" ? signed(limit ? value / limit : value) : sequential(high > low ? (value - low) / (high - low) : 0.5);
    image.data.set([...colour, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
};

const ROLES = ["reference", "candidate", "difference"];
const TITLES = { reference: "reference", candidate: "candidate", difference: "candidate − reference" };

// Three panels with one shared cursor: the mouse or the arrow keys read the same value on both sides.
const makePanels = (names = {}) => {
  const reading = h("p", { class: "wd-reading", "aria-live": "polite" });
  const body = h("div", { class: "wd-panels" });
  const node = h("div", {}, body, reading);
  let cursor = [0, 0];

  const read = (item, channel, marks, row, column) => {
    cursor = [Math.min(item.rows - 1, Math.max(0, row)), Math.min(item.columns - 1, Math.max(0, column))];
    const at = channel * item.rows * item.columns + cursor[0] * item.columns + cursor[1], codes = decoded(item);
    const [a, b, gap] = ROLES.map((role) => (codes[role] ? valueOf(item, role, codes[role][at]) : null));
    const square = item.square > 1 ? ` (${item.square} × ${item.square} values together)` : "";
    reading.textContent = `${item.labels[channel]}, ${item.axes[0]} ${cursor[0] * item.square}, ${item.axes[1]} ${cursor[1] * item.square}${square}: `
      + `reference ≈ ${figure(a)}, candidate ≈ ${figure(b)}, difference ${gap === 0 ? "exactly 0" : `≈ ${figure(gap)}`}`;
    for (const mark of marks) Object.assign(mark.style, { left: `${(100 * cursor[1]) / item.columns}%`, top: `${(100 * cursor[0]) / item.rows}%`,
      width: `${100 / item.columns}%`, height: `${100 / item.rows}%` });
  };

  const showMaps = (item, channel, scale) => {
    const marks = [], [low, high, limit] = scale ?? [item.low, item.high, item.limit];
    body.replaceChildren(...ROLES.map((role) => {
      const canvas = h("canvas", { role: "img", "aria-label": `${TITLES[role]}, ${item.labels[channel]}` }), mark = h("i", { class: "wd-cursor" });
      paint(canvas, item, role, channel, scale);
      marks.push(mark);
      const frame = h("div", { class: "wd-map", tabindex: "0", "aria-label": `${TITLES[role]}: arrow keys read values`, style: `aspect-ratio:${item.columns}/${item.rows}`,
        onpointermove: (event) => {
          const box = canvas.getBoundingClientRect();
          read(item, channel, marks, Math.floor(((event.clientY - box.top) / box.height) * item.rows), Math.floor(((event.clientX - box.left) / box.width) * item.columns));
        },
        onkeydown: (event) => {
          const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
          if (!move) return;
          event.preventDefault();
          read(item, channel, marks, cursor[0] + move[0], cursor[1] + move[1]);
        } }, canvas, mark);
      const note = role === "difference" && item.equal ? h("div", { class: "wd-legend" }, "equal, bit for bit") : role === "difference" ? signedLegend(limit) : legend(sequential, low, high);
      return h("figure", { class: "wd-panel" }, h("figcaption", {}, TITLES[role], names[role] && names[role] !== role ? h("small", {}, names[role]) : null), frame, note);
    }));
    read(item, channel, marks, ...cursor);
  };

  const showPicture = (item) => {
    reading.textContent = "";
    body.replaceChildren(...ROLES.map((role) => h("figure", { class: "wd-panel" }, h("figcaption", {}, TITLES[role], names[role] && names[role] !== role ? h("small", {}, names[role]) : null),
      h("img", { class: "wd-pixels", src: item[role], alt: TITLES[role] }), role === "difference" ? (item.equal ? h("div", { class: "wd-legend" }, "equal, bit for bit") : signedLegend(item.limit)) : null)));
  };

  const show = (item, channel = 0, scale = null) => {
    reading.textContent = "";
    if (item.kind === "maps") showMaps(item, Math.min(channel, item.labels.length - 1), scale);
    else if (item.kind === "picture") showPicture(item);
    else if (item.kind === "curve") body.replaceChildren(item.index.length > 1 ? curves(item) : numbers(item));
    else body.replaceChildren(h("p", { class: "wd-soft" }, item.text));
  };
  return { node, show, showPicture };
};

const numbers = (item) => h("p", {}, `reference ${item.reference[0] ?? "–"}, candidate ${item.candidate[0] ?? "–"}`, item.equal ? " (equal)" : "");

// A list of numbers on both sides: solid with dots, dashed with squares.
const curves = (item, width = 620, height = 220) => {
  const all = [...item.reference, ...item.candidate].filter((value) => value !== null);
  const low = Math.min(0, ...all), high = Math.max(...all, low + 1e-12), left = 54, bottom = 26;
  const x = (i) => left + ((width - left - 10) * i) / Math.max(1, item.index.length - 1);
  const y = (value) => 8 + (height - 8 - bottom) * (1 - (value - low) / (high - low));
  const line = (role) => {
    const points = item[role].map((value, i) => (value === null ? null : [x(i), y(value)])).filter(Boolean);
    const marks = points.length > 60 ? [] : points.map(([a, b]) => (role === "reference" ? svg("circle", { class: role, cx: a, cy: b, r: 3.2 })
      : svg("rect", { class: role, x: a - 4, y: b - 4, width: 8, height: 8 })));
    return [svg("polyline", { class: role, points: points.map((point) => point.map((n) => n.toFixed(1)).join(",")).join(" ") }), marks];
  };
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low));
  return h("div", { class: "wd-curve" },
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "values of both sides by index" },
      ticks.map((value) => [svg("line", { class: "grid", x1: left, x2: width - 10, y1: y(value), y2: y(value) }), text(left - 6, y(value) + 4, figure(value), "end")]),
      text(left, height - 6, String(item.index[0]), "middle"), text(width - 10, height - 6, `index ${item.index.at(-1)}`, "end"), line("reference"), line("candidate")),
    h("p", { class: "wd-key" }, h("b", { class: "wd-reference" }, "●── reference"), h("b", { class: "wd-candidate" }, "□- - candidate"), item.equal ? " equal, bit for bit" : ""));
};

const text = (x, y, words, anchor) => {
  const node = svg("text", { x, y, "text-anchor": anchor });
  node.textContent = words;
  return node;
};
