// A bug that nobody is shown: look, guess, and read how it was found.

const makePractice = (data, ask, told) => {
  const { answer, score } = data, status = h("p", { class: "wd-status", role: "status" });
  const buttons = [];
  const button = (words, act, more = {}) => {
    const node = h("button", { type: "button", onclick: act, ...more }, words);
    buttons.push(node);
    return node;
  };

  // The guess: a place and a cause, found by typing.
  const list = fresh("causes"), means = h("p", { class: "wd-soft wd-means" });
  const places = choice("place", [["", "choose a stage"], ...data.stages], "", () => {});
  const meaning = () => { means.textContent = (data.causes.find(([id]) => id === cause.value.trim()) ?? ["", ""])[1]; };
  const cause = h("input", { type: "text", list, placeholder: "type to search", autocomplete: "off", spellcheck: "false", oninput: meaning });
  const complain = (words, node) => {
    announce(status, { text: words, failed: true });
    node.focus();
  };
  const guess = () => {
    const id = cause.value.trim();
    if (!places.select.value) return complain("Choose the place first.", places.select);
    if (!id) return complain("Name a cause first.", cause);
    if (!data.causes.some(([known]) => known === id)) return complain(`There is no cause called "${id}"; choose one of the list.`, cause);
    ask("guess", { place: places.select.value, cause: id });
  };
  const form = () => h("div", { class: "wd-guess" }, h("h4", {}, "Your guess"), ask ? [
    h("datalist", { id: list }, data.causes.map(([id, words]) => h("option", { value: id }, words))),
    h("div", { class: "wd-controls" }, places.node, h("label", { class: "wd-field wd-grow" }, h("span", {}, "cause"), cause),
      button("that is it", guess, { class: "wd-main" }),
      data.hint ? null : button("hint: what each stage adds (costs 1 point)", () => ask("hint"))),
    means,
  ] : h("p", { class: "wd-soft" }, "Guessing takes a running kernel: open the notebook in JupyterLab and run it."));

  const hint = () => h("table", { class: "wd-facts" }, h("caption", {}, "Fed the reference's own inputs, each stage adds"),
    h("tbody", {}, data.hint.map((entry) => h("tr", {}, h("th", { scope: "row" }, entry.name),
      h("td", {}, entry.adds ? floors(entry.adds) : "nothing")))));

  const levels = choice("level", Object.entries(data.levels).map(([level, words]) => [level, `${level}: ${words}`]), data.level, () => {});
  const named = () => {
    if (answer.named) return "whydiff named it too; its experiment stands below, at the stage.";
    if (answer.found.length) return `whydiff names ${answer.found.join(", ")} instead.`;
    return "whydiff could not name it: its place stands below as unexplained.";
  };
  const reveal = () => h("div", { class: "wd-answer", tabindex: "-1" },
    h("h4", {}, `${answer.words} ${answer.points} of 3 points.`),
    h("p", {}, "Planted: ", h("b", {}, answer.meaning), " ", h("code", {}, answer.id)),
    h("p", {}, named()),
    h("details", {}, h("summary", {}, "the code that planted it"), h("pre", {}, answer.code)),
    ask ? h("div", { class: "wd-controls" }, levels.node,
      button("next round", () => ask("next", levels.select.value), { class: "wd-main" })) : null);

  // A stage that was opened is the likely guess.
  const follow = (state) => { if (state.touched) places.select.value = state.stage; };
  const board = makeBoard(answer ? answer.board : data.board, null, told, follow);
  const rounds = `${score.rounds} round${score.rounds > 1 ? "s" : ""}`;
  const shown = answer ? reveal() : null;
  const node = h("section", { class: "wd-practice", "aria-label": "practice" },
    h("p", { class: "wd-headline" }, h("b", {}, `Round ${data.round}, ${data.level}. `),
      `${data.pipeline}, twice, equal but for one bug in the candidate. What is it? `,
      h("span", { class: "wd-soft" }, score.rounds ? `${score.points} of ${score.possible} points in ${rounds}` : "no round answered yet")),
    shown, makePictures(data.pictures), board.node, data.hint && !answer ? hint() : null, answer ? null : form(), status);

  const listen = () => {
    announce(status, told());
    for (const entry of buttons) entry.disabled = Boolean(told()?.busy);
  };
  listen();
  if (shown) setTimeout(() => shown.focus(), 0);
  return { node, listen };
};
