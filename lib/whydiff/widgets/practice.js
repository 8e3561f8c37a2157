// A bug that nobody is shown: look, guess, and read how it was found.

const makePractice = (data, ask, told) => {
  const { answer, score } = data, status = h("p", { class: "wd-status", role: "status" });
  const places = choice("place", [["", "choose a stage"], ...data.stages], answer?.place ?? "", () => {});
  const list = fresh("causes");
  const cause = h("input", { type: "text", list, placeholder: "type to search", value: answer?.cause ?? "", autocomplete: "off", spellcheck: "false", oninput: () => meaning() });
  const means = h("p", { class: "wd-soft wd-means" });
  const meaning = () => { means.textContent = (data.causes.find(([id]) => id === cause.value.trim()) ?? ["", ""])[1]; };
  const levels = choice("level", Object.entries(data.levels).map(([level, words]) => [level, `${level}: ${words}`]), data.level, () => {});
  const buttons = [];
  const button = (words, act, more = {}) => {
    const node = h("button", { type: "button", onclick: act, ...more }, words);
    buttons.push(node);
    return node;
  };
  const guess = () => {
    const id = cause.value.trim();
    if (!places.select.value) return complain("Choose the place first.", places.select);
    if (!data.causes.some(([known]) => known === id)) return complain(id ? `There is no cause called "${id}"; the list knows ${data.causes.length}.` : "Name a cause first.", cause);
    ask("guess", { place: places.select.value, cause: id });
  };
  const complain = (words, node) => {
    status.textContent = words;
    status.className = "wd-status wd-failed";
    node.focus();
  };
  // A stage that is looked at is the likely guess.
  const board = makeBoard(answer ? answer.board : data.board, null, told, (state) => { if (!answer && state.stage && state.touched) places.select.value = state.stage; });

  const form = h("div", { class: "wd-guess" }, h("h4", {}, "Your guess"), ask ? [
    h("div", { class: "wd-controls" }, places.node, h("label", { class: "wd-field wd-grow" }, h("span", {}, "cause"), cause), h("datalist", { id: list }, data.causes.map(([id, words]) => h("option", { value: id }, words))),
      button("that is it", guess, { class: "wd-main" }), data.hint ? null : button("hint: what each stage adds (costs 1 point)", () => ask("hint"))), means]
    : h("p", { class: "wd-soft" }, "Guessing takes a running kernel: open the notebook in JupyterLab and run it."));
  const hint = data.hint ? h("table", { class: "wd-facts" }, h("caption", {}, "Fed the reference's own inputs, each stage adds"),
    h("tbody", {}, data.hint.map((entry) => h("tr", {}, h("th", { scope: "row" }, entry.name), h("td", {}, entry.adds ? floors(entry.adds) : "nothing"))))) : null;
  const reveal = answer ? h("div", { class: "wd-answer", tabindex: "-1" },
    h("h4", {}, answer.words, ` ${answer.points} of 3 points.`),
    h("p", {}, "Planted: ", h("b", {}, answer.meaning), " ", h("code", {}, answer.id)),
    h("p", {}, answer.named ? "whydiff named it too; its experiment stands below, at the stage." : answer.found.length ? `whydiff names ${answer.found.join(", ")} instead.` : "whydiff could not name it: its place stands below as unexplained."),
    h("details", {}, h("summary", {}, "the code that planted it"), h("pre", {}, answer.code)),
    ask ? h("div", { class: "wd-controls" }, levels.node, button("next round", () => ask("next", levels.select.value), { class: "wd-main" })) : null) : null;

  const listen = () => {
    const { text: words = "", busy = false, failed = false } = told() ?? {};
    status.textContent = words;
    status.className = `wd-status${busy ? " wd-busy" : ""}${failed ? " wd-failed" : ""}`;
    for (const node of buttons) node.disabled = busy;
  };
  listen();
  const total = score.rounds ? `${score.points} of ${score.possible} points in ${score.rounds} round${score.rounds > 1 ? "s" : ""}` : "no round answered yet";
  const node = h("section", { class: "wd-practice", "aria-label": "practice" },
    h("p", { class: "wd-headline" }, h("b", {}, `Round ${data.round}, ${data.level}. `), `Two ${data.pipeline}s, equal but for one bug in the candidate. What is it? `, h("span", { class: "wd-soft" }, total)),
    reveal, makePictures(data.pictures), board.node, hint, answer ? null : form, status);
  if (reveal) setTimeout(() => reveal.focus(), 0);
  return { node, listen };
};
