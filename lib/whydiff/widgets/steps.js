// The sampler, step by step.

const makeSteps = (data) => {
  if (!data.items.length) return h("p", { class: "wd-soft" }, `No ${data.probe} were recorded on both sides.`);
  const panels = makePanels(), trend = makeTrend(data.curve), said = h("p", { class: "wd-soft" });
  const first = data.items[0], coloured = Boolean(first.preview);
  const state = { step: 0, channel: coloured ? "preview" : 0, shared: true };
  const maps = data.items.filter((item) => item.kind === "maps");
  const all = maps.length ? [Math.min(...maps.map((item) => item.low)), Math.max(...maps.map((item) => item.high)),
    Math.max(...maps.map((item) => item.limit))] : null;

  const draw = () => {
    const item = data.items[state.step], { difference, floor } = data.curve[state.step];
    if (state.channel === "preview" && item.preview) panels.showPicture(item.preview);
    else panels.show(item, Number(state.channel) || 0, state.shared ? all : null);
    trend.mark(state.step);
    const size = item.times === 0 ? ", equal" : item.times === null ? "" : `, ${floors(item.times)}`;
    said.textContent = `${item.place}: relative difference ${figure(difference)}${size}; one floor is ${figure(floor)}`;
  };
  const set = (key) => (value) => {
    state[key] = value;
    draw();
  };

  const channels = [...(coloured ? [["preview", "in colour (preview)"]] : []), ...(first.labels ?? []).map((label, i) => [i, label])];
  const one = h("input", { type: "checkbox", checked: true, onchange: () => set("shared")(one.checked) });
  const controls = h("div", { class: "wd-controls" },
    player("step", data.items.map((item) => item.place), 0, set("step")).node,
    channels.length > 1 ? choice("channel", channels, state.channel, set("channel")).node : null,
    maps.length ? h("label", { class: "wd-field" }, one, h("span", {}, "one scale for all steps")) : null);
  const share = `${Math.round(100 * data.previewShare)} %`;
  const fit = `In colour: no decoder, but a linear map fitted from the reference's last latents to its picture, of which it explains ${share}.`;
  draw();
  return h("section", { class: "wd-steps", "aria-label": `${data.probe}, step by step` }, controls, panels.node, said, trend.node,
    coloured ? h("p", { class: "wd-soft" }, fit) : null);
};

// The difference over the steps beside its noise floor, on a logarithmic axis, and a dot where one is.
const makeTrend = (curve, width = 620, height = 110) => {
  const known = curve.flatMap((at) => [at.difference, at.floor]).filter((value) => value > 0);
  if (curve.length < 2 || !known.length) return { node: h("span"), mark: () => {} };
  const low = Math.log10(Math.min(...known)) - 0.3, high = Math.log10(Math.max(...known)) + 0.3, left = 54, right = width - 10;
  const x = (i) => left + ((right - left) * i) / (curve.length - 1);
  const y = (value) => 6 + ((height - 26) * (high - (value > 0 ? Math.max(low, Math.log10(value)) : low))) / (high - low);
  const line = (key, kind) => svg("polyline", { class: kind,
    points: curve.map((at, i) => `${x(i).toFixed(1)},${y(at[key]).toFixed(1)}`).join(" ") });
  const tick = (value) => [svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
    text(left - 6, y(value) + 4, figure(value), "end")];
  const dot = svg("circle", { class: "reference", r: 5 });
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "relative difference over the steps" },
    [high - 0.3, (high + low) / 2, low + 0.3].map((exponent) => tick(10 ** exponent)),
    line("floor", "candidate"), line("difference", "reference"), dot,
    text(left, height - 5, `step ${curve[0].step}`, "start"), text(right, height - 5, `step ${curve.at(-1).step}`, "end"));
  const key = h("p", { class: "wd-key" }, h("b", { class: "wd-reference" }, "── difference"),
    h("b", { class: "wd-candidate" }, "- - noise floor"));
  const mark = (i) => {
    dot.setAttribute("cx", x(i));
    dot.setAttribute("cy", y(curve[i].difference));
  };
  return { node: h("div", { class: "wd-curve wd-trend" }, drawing, key), mark };
};
