// The values of one place: reference, candidate and their difference side by side, as maps, a picture, a curve or numbers.

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// Bytes of a place, decoded once. What is equal was sent once.
const decoded = (item) => (item.decoded ??= {
  reference: bytes(item.reference),
  candidate: item.candidate ? bytes(item.candidate) : item.equal ? bytes(item.reference) : null,
  difference: item.difference ? bytes(item.difference)
    : item.equal ? new Uint8Array(item.labels.length * item.rows * item.columns).fill(128) : null,
});

// The value behind a byte (see maps.py); null where it was not finite.
const valueOf = (item, role, code) => {
  if (code === 0) return null;
  return role === "difference" ? ((code - 128) / 127) * item.limit : item.low + ((code - 1) / 254) * (item.high - item.low);
};

const colourOf = (value, role, [low, high, limit]) => {
  if (value === null) return BROKEN;
  if (role === "difference") return signed(limit ? value / limit : value);
  return sequential(high > low ? (value - low) / (high - low) : 0.5);
};

const paint = (canvas, item, role, channel, scale) => {
  const size = item.rows * item.columns, codes = decoded(item)[role];
  Object.assign(canvas, { width: item.columns, height: item.rows });
  const context = canvas.getContext("2d"), image = context.createImageData(item.columns, item.rows);
  for (let i = 0; i < size; i++) {
    const value = codes ? valueOf(item, role, codes[channel * size + i]) : null;
    image.data.set([...colourOf(value, role, scale), 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
};

const TITLES = { reference: "reference", candidate: "candidate", difference: "candidate − reference" };
const ROLES = Object.keys(TITLES);
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// Three panels with one shared cursor: the mouse or the arrow keys read the same value on both sides.
const makePanels = (names = {}) => {
  const reading = h("p", { class: "wd-reading", "aria-live": "polite" }), body = h("div", { class: "wd-panels" });
  let cursor = [0, 0];

  const panel = (role, content, note) => h("figure", { class: "wd-panel" },
    h("figcaption", {}, TITLES[role], names[role] && names[role] !== role ? h("small", {}, names[role]) : null), content, note);
  const scaleOf = (role, equal, [low, high, limit]) => {
    if (role !== "difference") return legend(sequential, low, high);
    return equal ? h("div", { class: "wd-legend" }, "equal, bit for bit") : signedLegend(limit);
  };

  const read = (item, channel, marks, row, column) => {
    cursor = [Math.min(item.rows - 1, Math.max(0, row)), Math.min(item.columns - 1, Math.max(0, column))];
    const at = (channel * item.rows + cursor[0]) * item.columns + cursor[1], codes = decoded(item);
    const [a, b, gap] = ROLES.map((role) => (codes[role] ? valueOf(item, role, codes[role][at]) : null));
    const [y, x] = cursor.map((place) => place * item.square);
    const square = item.square > 1 ? ` (${item.square} × ${item.square} values together)` : "";
    reading.textContent = `${item.labels[channel]}, ${item.axes[0]} ${y}, ${item.axes[1]} ${x}${square}: reference ≈ ${figure(a)}, `
      + `candidate ≈ ${figure(b)}, difference ${gap === 0 ? "exactly 0" : `≈ ${figure(gap)}`}`;
    const share = (place, size) => `${(100 * place) / size}%`;
    for (const mark of marks) {
      Object.assign(mark.style, { left: share(cursor[1], item.columns), top: share(cursor[0], item.rows),
        width: share(1, item.columns), height: share(1, item.rows) });
    }
  };

  const showMaps = (item, channel, scale) => {
    const marks = ROLES.map(() => h("i", { class: "wd-cursor" }));
    const go = (row, column) => read(item, channel, marks, row, column);
    body.replaceChildren(...ROLES.map((role, i) => {
      const canvas = h("canvas", { role: "img", "aria-label": `${TITLES[role]}, ${item.labels[channel]}` });
      paint(canvas, item, role, channel, scale);
      const point = (event) => {
        const box = canvas.getBoundingClientRect();
        const down = (event.clientY - box.top) / box.height, along = (event.clientX - box.left) / box.width;
        go(Math.floor(down * item.rows), Math.floor(along * item.columns));
      };
      const step = (event) => {
        const move = MOVES[event.key];
        if (!move) return;
        event.preventDefault();
        go(cursor[0] + move[0], cursor[1] + move[1]);
      };
      const frame = h("div", { class: "wd-map", tabindex: "0", role: "group", "aria-label": `${TITLES[role]}: arrow keys read values`,
        style: `aspect-ratio:${item.columns}/${item.rows}`, onpointermove: point, onkeydown: step }, canvas, marks[i]);
      return panel(role, frame, scaleOf(role, item.equal, scale));
    }));
    go(...cursor);
  };

  const showPicture = (item) => {
    reading.textContent = "";
    body.replaceChildren(...ROLES.map((role) => panel(role, h("img", { class: "wd-pixels", src: item[role], alt: TITLES[role] }),
      role === "difference" ? scaleOf(role, item.equal, [0, 1, item.limit]) : null)));
  };

  const show = (item, channel = 0, scale = null) => {
    reading.textContent = "";
    if (item.kind === "maps") showMaps(item, Math.min(channel, item.labels.length - 1), scale ?? [item.low, item.high, item.limit]);
    else if (item.kind === "picture") showPicture(item);
    else if (item.kind === "curve") body.replaceChildren(item.index.length > 1 ? curves(item) : numbers(item));
    else body.replaceChildren(h("p", { class: "wd-soft" }, item.text));
  };
  return { node: h("div", {}, body, reading), show, showPicture };
};

const numbers = (item) => h("p", {}, `reference ${item.reference[0] ?? "–"}, candidate ${item.candidate[0] ?? "–"}${item.equal ? " (equal)" : ""}`);

// A list of numbers on both sides: solid with dots, dashed with squares.
const curves = (item, width = 620, height = 220) => {
  const all = [...item.reference, ...item.candidate].filter((value) => value !== null);
  const low = Math.min(0, ...all), high = Math.max(...all, low + 1e-12), left = 54, right = width - 10, floor = height - 26;
  const x = (i) => left + ((right - left) * i) / Math.max(1, item.index.length - 1);
  const y = (value) => 8 + ((floor - 8) * (high - value)) / (high - low);
  const mark = (role, [a, b]) => (role === "reference" ? svg("circle", { class: role, cx: a, cy: b, r: 3.2 })
    : svg("rect", { class: role, x: a - 4, y: b - 4, width: 8, height: 8 }));
  const line = (role) => {
    const points = item[role].map((value, i) => (value === null ? null : [x(i), y(value)])).filter(Boolean);
    const path = points.map((point) => point.map((n) => n.toFixed(1)).join(",")).join(" ");
    return [svg("polyline", { class: role, points: path }), points.length > 60 ? [] : points.map((point) => mark(role, point))];
  };
  const tick = (value) => [svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
    text(left - 6, y(value) + 4, figure(value), "end")];
  return h("div", { class: "wd-curve" },
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "values of both sides by index" },
      [0, 0.25, 0.5, 0.75, 1].map((share) => tick(low + share * (high - low))),
      text(left, height - 6, String(item.index[0]), "middle"), text(right, height - 6, `index ${item.index.at(-1)}`, "end"),
      line("reference"), line("candidate")),
    h("p", { class: "wd-key" }, h("b", { class: "wd-reference" }, "●── reference"), h("b", { class: "wd-candidate" }, "□- - candidate"),
      item.equal ? " equal, bit for bit" : ""));
};

const text = (x, y, words, anchor) => {
  const node = svg("text", { x, y, "text-anchor": anchor });
  node.textContent = words;
  return node;
};
