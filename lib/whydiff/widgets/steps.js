// The sampler, step by step.

const makeSteps = (data) => {
  if (!data.items.length) return h("p", { class: "wd-soft" }, `No ${data.probe} were recorded on both sides.`);
  const panels = makePanels(), first = data.items[0], maps = first.kind === "maps", coloured = Boolean(first.preview);
  const state = { step: 0, channel: coloured ? "preview" : 0, shared: true };
  const finite = data.items.filter((item) => item.kind === "maps");
  const scale = finite.length ? [Math.min(...finite.map((i) => i.low)), Math.max(...finite.map((i) => i.high)), Math.max(...finite.map((i) => i.limit))] : null;
  const trend = makeTrend(data.curve), said = h("p", { class: "wd-soft" });
  const draw = () => {
    const item = data.items[state.step];
    if (state.channel === "preview" && item.preview) panels.showPicture(item.preview);
    else panels.show(item, Number(state.channel) || 0, state.shared ? scale : null);
    trend.mark(state.step);
    const { difference, floor } = data.curve[state.step];
    said.textContent = `${item.place}: relative difference ${figure(difference)}` + (item.times === null ? "" : item.times === 0 ? ", equal" : `, ${floors(item.times)}`) + `; one floor is ${figure(floor)}`;
  };
  const channels = [...(coloured ? [["preview", "in colour (preview)"]] : []), ...(maps ? first.labels.map((label, i) => [i, label]) : [])];
  const one = h("input", { type: "checkbox", checked: true, onchange: () => { state.shared = one.checked; draw(); } });
  const controls = h("div", { class: "wd-controls" }, player("step", data.items.map((item) => item.place), 0, (i) => { state.step = i; draw(); }).node,
    channels.length > 1 ? choice("channel", channels, state.channel, (value) => { state.channel = value; draw(); }).node : null,
    maps ? h("label", { class: "wd-field" }, one, h("span", {}, "one scale for all steps")) : null);
  draw();
  return h("section", { class: "wd-steps", "aria-label": `${data.probe}, step by step` }, controls, panels.node, said, trend.node,
    coloured ? h("p", { class: "wd-soft" }, `In colour: no decoder, but a linear map fitted from the reference's last latents to its picture, of which it explains ${Math.round(100 * data.previewShare)} %.`) : null);
};

// The difference over the steps on a logarithmic axis, what stands out, and where one is.
const makeTrend = (curve, width = 620, height = 110) => {
  const known = curve.flatMap((at) => [at.difference, at.floor]).filter((value) => value > 0);
  if (curve.length < 2 || !known.length) return { node: h("span"), mark: () => {} };
  const low = Math.log10(Math.min(...known)) - 0.3, high = Math.log10(Math.max(...known)) + 0.3, left = 54;
  const x = (i) => left + ((width - left - 10) * i) / (curve.length - 1), y = (value) => 6 + (height - 26) * (1 - (Math.max(low, Math.log10(Math.max(value, 1e-300))) - low) / (high - low));
  const line = (key, kind) => svg("polyline", { class: kind, points: curve.map((at, i) => `${x(i).toFixed(1)},${y(at[key] || 10 ** low).toFixed(1)}`).join(" ") });
  const dot = svg("circle", { class: "reference", r: 5 });
  const ticks = [high - 0.3, (high + low) / 2, low + 0.3];
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "relative difference over the steps" },
    ticks.map((power) => [svg("line", { class: "grid", x1: left, x2: width - 10, y1: y(10 ** power), y2: y(10 ** power) }), text(left - 6, y(10 ** power) + 4, figure(10 ** power), "end")]),
    line("floor", "candidate"), line("difference", "reference"), dot, text(left, height - 5, `step ${curve[0].step}`, "start"), text(width - 10, height - 5, `step ${curve.at(-1).step}`, "end"));
  return { node: h("div", { class: "wd-curve wd-trend" }, drawing, h("p", { class: "wd-key" }, h("b", { class: "wd-reference" }, "── difference"), h("b", { class: "wd-candidate" }, "- - noise floor"))),
    mark: (i) => { dot.setAttribute("cx", x(i)); dot.setAttribute("cy", y(curve[i].difference || 10 ** low)); } };
};
