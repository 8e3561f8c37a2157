// The entry point of a front end, and of a page that stands alone.

const MAKERS = {
  pictures: (data) => ({ node: makePictures(data) }),
  steps: (data) => ({ node: makeSteps(data) }),
  board: makeBoard,
  practice: makePractice,
};

function render({ model, el }) {
  const live = Boolean(model.get("live"));
  let asked = 0;
  const ask = live ? (what, value) => {
    model.set("asked", { what, value, number: ++asked });
    model.save_changes();
  } : null;
  const root = h("div", { class: `wd${live ? "" : " wd-alone"}`, "data-exhibit": model.get("exhibit") });
  keepKeys(root);
  el.replaceChildren(root);
  let made = null;
  const draw = () => {
    const data = model.get("data");
    made = MAKERS[data.kind](data, ask, () => model.get("told"));
    root.replaceChildren(made.node);
  };
  const listen = () => made?.listen?.();
  model.on("change:data", draw);
  model.on("change:told", listen);
  draw();
  return () => { model.off("change:data", draw); model.off("change:told", listen); };
}

// Without a front end: what is shown lies in the page, and the frame around it is told how tall it is.
function alone() {
  const held = JSON.parse(document.getElementById("held").textContent), box = document.getElementById("exhibit");
  render({ model: { get: (key) => held[key], set() {}, save_changes() {}, on() {}, off() {} }, el: box });
  const say = () => parent.postMessage({ whydiffHeight: Math.ceil(box.getBoundingClientRect().height) + 4 }, "*");
  new ResizeObserver(say).observe(box);
  addEventListener("message", say);
}

export default { render };
