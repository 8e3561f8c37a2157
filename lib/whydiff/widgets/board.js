// The explorer: a strip of stages, and behind each its places, figures and causes.

const makeBoard = (data, ask = null, told = () => ({}), pick = () => {}) => {
  const start = data.first?.stage ?? (data.stages.find((entry) => entry.times > 0) ?? data.stages[0])?.stage;
  const state = { touched: false, stage: start, probe: null };
  const strip = h("ol", { class: "wd-strip", "aria-label": "stages of the pipeline" }), view = h("div", {});

  const open = (stage) => {
    Object.assign(state, { stage, probe: null, touched: true });
    for (const button of strip.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.stage === stage));
    drawStage();
  };
  strip.append(...data.stages.map((entry) => makeTile(entry, data.first?.stage === entry.stage, entry.stage === state.stage, open)));
  strip.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key], buttons = [...strip.querySelectorAll("button")];
    const here = buttons.indexOf(event.target.closest("button"));
    if (!move || here < 0) return;
    event.preventDefault();
    buttons[Math.min(buttons.length - 1, Math.max(0, here + move))].focus();
  });

  const drawStage = () => {
    const entry = data.stages.find((one) => one.stage === state.stage), probes = entry?.probes ?? [];
    const having = (what) => probes.find((name) => data.probes[name].places.some((at) => at[what]));
    state.probe ??= probes.includes(data.first?.probe) ? data.first.probe : having("adds") ?? having("stands") ?? probes[0] ?? null;
    view.replaceChildren(
      h("h4", {}, entry ? `${entry.sign} ${entry.name}: ${entry.word}` : "nothing was compared"),
      ...(entry ? makeReasons(entry) : []),
      state.probe ? place(probes) : h("p", { class: "wd-soft" }, "No tensor of this stage was recorded on both sides."));
    pick(state);
  };
  const place = (probes) => {
    const box = makePlace(data, probes, state.probe, (probe) => {
      state.probe = probe;
      const next = place(probes);
      box.replaceWith(next);
      next.querySelector("select").focus();
    });
    return box;
  };

  const cases = ask && data.cases?.length ? choice("case", data.cases.map((name) => [name, name]), data.case, (name) => ask("case", name)) : null;
  const status = h("p", { class: "wd-status", role: "status" });
  const listen = () => {
    announce(status, told());
    if (!cases) return;
    cases.select.disabled = Boolean(told()?.busy);
    if (told()?.failed) cases.select.value = data.case;
  };
  const known = `The stronger its colour, the further a stage stands above the noise floor${data.blind ? "" : "; striped: it only inherits"}.`;
  drawStage();
  listen();
  const node = h("section", { class: "wd-board", "aria-label": "explorer" },
    cases ? h("div", { class: "wd-controls" }, cases.node, status) : null,
    data.headline ? h("p", { class: "wd-headline" }, h("b", {}, data.headline),
      ` ${data.summary.charAt(0).toUpperCase()}${data.summary.slice(1)}`) : null,
    strip, h("p", { class: "wd-soft" }, `${known} Choose one to see what is there.`), view);
  return { node, listen };
};

// A stage of the strip: its sign, its name, what it does, and how far it stands above the floor, as colour and in words.
const makeTile = (entry, first, chosen, open) => {
  const level = entry.times > 0 ? Math.min(1, Math.max(0.06, Math.log10(1 + entry.times) / 7)) : entry.unmeasured ? 1 : 0;
  const size = entry.unmeasured && !entry.times ? "other shapes" : entry.times ? floors(entry.times) : "";
  const words = [`${entry.name}: ${entry.word}`, size, first ? "first divergence" : ""].filter(Boolean).join(", ");
  const button = h("button", { type: "button", class: `wd-stage wd-${entry.state}`, "data-stage": entry.stage, "data-dark": String(level > 0.69),
    style: `--wd-level:${Math.round(100 * level)}%`, "aria-pressed": String(chosen), "aria-label": words, onclick: () => open(entry.stage) },
  h("span", { class: "wd-sign" }, entry.sign), h("span", { class: "wd-name" }, entry.name),
  h("span", { class: "wd-word" }, entry.word), h("span", { class: "wd-size" }, size));
  return h("li", {}, h("span", { class: "wd-first" }, first ? "▼ first divergence" : ""), button);
};

// The causes of a stage, those that act elsewhere and show here, and what stays open.
const makeReasons = (entry) => {
  const share = (c) => `${c.explained} of the difference there${c.effect ? `; repairing it alone removes ${c.effect} of the picture's` : ""}`;
  const cause = (c, before = "") => h("details", { class: "wd-cause", open: true },
    h("summary", {}, before, c.statement, " ", h("code", {}, c.id)),
    h("dl", {}, [["proof", c.experiment], ["explains", share(c)], ["departs", c.departs], ["fix", c.fix]]
      .filter(([, words]) => words).map(([name, words]) => [h("dt", {}, name), h("dd", {}, words)])));
  return [
    ...entry.causes.map((c) => cause(c)),
    ...entry.seen.map((c) => cause(c, `acts in ${c.acts}, is first seen here: `)),
    ...entry.unexplained.map((words) => h("p", { class: "wd-open" }, `Unexplained, here: ${words}`)),
  ];
};

// The places of one probe: a step and a channel to choose, the values, and every figure of the comparison.
const makePlace = (data, probes, probe, turn) => {
  const { places, of } = data.probes[probe], adding = places.findIndex((at) => at.adds);
  const state = { place: Math.max(0, adding >= 0 ? adding : places.findIndex((at) => at.stands)), channel: 0 };
  const panels = makePanels(data.names), facts = h("table", { class: "wd-facts" });
  const draw = () => {
    const item = places[state.place];
    panels.show(item, state.channel);
    facts.replaceChildren(h("caption", {}, item.place),
      h("tbody", {}, item.figures.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)))));
  };
  const set = (key) => (value) => {
    state[key] = Number(value);
    draw();
  };
  const words = places.map((at) => at.place + (at.adds ? ", adds" : at.stands ? ", differs" : ""));
  const labels = places[state.place].labels ?? [];
  draw();
  return h("div", {}, h("div", { class: "wd-controls" },
    choice("probe", probes.map((name) => [name, name]), probe, turn).node,
    places.length > 1 ? player("step", words, state.place, set("place")).node : null,
    labels.length > 1 ? choice("channel", labels.map((label, i) => [i, label]), 0, set("channel")).node : null,
    of > places.length ? h("span", { class: "wd-soft" }, `${places.length} of ${of} places`) : null),
  h("div", { class: "wd-two" }, panels.node, facts));
};
