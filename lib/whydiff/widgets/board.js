// The explorer: a strip of stages, and behind each its places, figures and causes.

const makeBoard = (data, ask = null, told = () => ({}), pick = () => {}) => {
  const state = { touched: false, stage: data.first?.stage ?? (data.stages.find((s) => s.times > 0) ?? data.stages[0])?.stage, probe: null, place: 0, channel: 0 };
  const strip = h("ol", { class: "wd-strip", "aria-label": "stages of the pipeline" }), view = h("div", { class: "wd-view" });
  const stageOf = () => data.stages.find((s) => s.stage === state.stage);

  const tile = (entry) => {
    const level = entry.times > 0 ? Math.min(1, Math.max(0.06, Math.log10(1 + entry.times) / 7)) : entry.unmeasured ? 1 : 0;
    const first = data.first?.stage === entry.stage;
    const size = entry.unmeasured && !entry.times ? "other shapes" : entry.tensors && entry.times !== 0 ? floors(entry.times) : "";
    return h("li", {}, h("span", { class: "wd-first" }, first ? "▼ first divergence" : ""),
      h("button", { type: "button", class: `wd-stage wd-${entry.state}`, "data-stage": entry.stage, "data-dark": String(level > 0.45), style: `--wd-level:${Math.round(100 * level)}%`,
        "aria-pressed": String(entry.stage === state.stage), "aria-label": `${entry.name}: ${entry.word}${size ? `, ${size}` : ""}${first ? ", first divergence" : ""}`, onclick: () => open(entry.stage) },
      h("span", { class: "wd-sign" }, entry.sign), h("span", { class: "wd-name" }, entry.name), h("span", { class: "wd-word" }, entry.word), h("span", { class: "wd-size" }, size)));
  };
  const open = (stage) => {
    Object.assign(state, { stage, probe: null, touched: true });
    for (const button of strip.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.stage === stage));
    drawStage();
  };
  strip.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key], buttons = [...strip.querySelectorAll("button")], at = buttons.indexOf(document.activeElement ?? event.target);
    const here = at < 0 ? buttons.indexOf(event.target) : at;
    if (!move || here < 0) return;
    event.preventDefault();
    buttons[Math.min(buttons.length - 1, Math.max(0, here + move))].focus();
  });

  const drawStage = () => {
    const entry = stageOf(), probes = entry?.probes ?? [];
    state.probe ??= probes.includes(data.first?.probe) ? data.first.probe : probes.find((name) => data.probes[name].places.some((at) => at.adds)) ?? probes.find((name) => data.probes[name].places.some((at) => at.stands)) ?? probes[0] ?? null;
    state.place = 0;
    state.channel = 0;
    view.replaceChildren(h("h4", {}, entry ? `${entry.sign} ${entry.name}: ${entry.word}` : "nothing was compared"), ...(entry ? reasons(entry) : []),
      state.probe ? place(probes) : h("p", { class: "wd-soft" }, "No tensor of this stage was recorded on both sides."));
    pick(state);
  };
  const reasons = (entry) => [...entry.causes.map((c) => cause(c)), ...entry.seen.map((c) => cause(c, `acts in ${c.acts}, is first seen here: `)), ...entry.unexplained.map((words) => h("p", { class: "wd-open" }, `Unexplained, here: ${words}`))];
  const cause = (c, before = "") => h("details", { class: "wd-cause", open: true }, h("summary", {}, before, c.statement, " ", h("code", {}, c.id)),
    h("dl", {}, [["proof", c.experiment], ["explains", `${c.explained} of the difference there` + (c.effect ? `; repairing it alone removes ${c.effect} of the picture's` : "")], ["departs", c.departs], ["fix", c.fix]]
      .flatMap(([name, words]) => (words ? [h("dt", {}, name), h("dd", {}, words)] : []))));

  const place = (probes) => {
    const box = h("div", {}), panels = makePanels(data.names), facts = h("table", { class: "wd-facts" });
    const { places, of } = data.probes[state.probe], item = () => places[state.place];
    const start = places.findIndex((at) => at.adds);
    state.place = Math.max(0, start >= 0 ? start : places.findIndex((at) => at.stands));
    const channels = h("span");
    const draw = () => {
      const labels = item().labels ?? [];
      if (channels.dataset.count !== String(labels.length)) {
        channels.dataset.count = labels.length;
        channels.replaceChildren(labels.length > 1 ? choice("channel", labels.map((label, i) => [i, label]), state.channel, (value) => { state.channel = Number(value); draw(); }).node : "");
      }
      panels.show(item(), state.channel);
      facts.replaceChildren(h("caption", {}, item().place), h("tbody", {}, item().figures.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)))));
      pick(state);
    };
    const words = places.map((at) => at.place + (at.adds ? ", adds" : at.stands ? ", differs" : ""));
    box.append(h("div", { class: "wd-controls" },
      choice("probe", probes.map((name) => [name, name]), state.probe, (value) => { state.probe = value; box.replaceWith(place(probes)); }).node,
      places.length > 1 ? player("step", words, state.place, (i) => { state.place = i; draw(); }).node : null, channels,
      of > places.length ? h("span", { class: "wd-soft" }, `${places.length} of ${of} places`) : null),
    h("div", { class: "wd-two" }, panels.node, facts));
    draw();
    return box;
  };

  strip.append(...data.stages.map(tile));
  drawStage();
  const cases = ask && data.cases?.length ? choice("case", data.cases.map((name) => [name, name]), data.case, (value) => ask("case", value)) : null;
  const status = h("p", { class: "wd-status", role: "status" });
  const listen = () => {
    const { text: words = "", busy = false, failed = false } = told() ?? {};
    status.textContent = words;
    status.className = `wd-status${busy ? " wd-busy" : ""}${failed ? " wd-failed" : ""}`;
    if (cases) cases.select.disabled = busy;
    if (cases && failed) cases.select.value = data.case;
  };
  listen();
  const node = h("section", { class: "wd-board", "aria-label": "explorer" }, cases ? h("div", { class: "wd-controls" }, cases.node, status) : null,
    data.headline ? h("p", { class: "wd-headline" }, h("b", {}, `${data.headline}. `), data.summary.startsWith(data.headline) ? data.summary.slice(data.headline.length).replace(/^[,.\s]+/, "") : data.summary) : null,
    strip, h("p", { class: "wd-soft" }, "The stronger its colour, the further a stage stands above the noise floor (difference in floors; striped: inherited). Choose one to see what is there."), view);
  return { node, listen };
};
