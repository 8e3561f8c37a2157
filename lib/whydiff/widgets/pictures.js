// Two pictures to compare by eye.

const makePictures = (data) => {
  if (!data.frames.length) return h("p", { class: "wd-soft" }, data.why);
  const whole = data.frames[0].difference !== null;
  const side_ = [["side", "side by side"]], flip = data.frames[0].flip ? [["flip", "FLIP (as seen)"]] : [];
  const modes = whole ? [["swipe", "swipe"], ["blink", "blink"], ...side_, ["difference", "difference"], ...flip] : side_;
  const state = { mode: modes[0][0], frame: 0, zoom: 1, swipe: 50, shown: "reference" };
  const base = data.columns >= 400 ? 480 : data.columns * Math.max(1, Math.round(384 / data.columns));
  const panes = h("div", { class: "wd-panes" }), below = h("div", { class: "wd-below" });
  const said = h("output", { class: "wd-said" });
  let timer = null;

  const image = (role, more = {}) => {
    const source = data.frames[state.frame][role];
    if (!source) return h("p", { class: "wd-soft" }, `no picture of the ${role}`);
    return h("img", { class: "wd-pixels", src: source, alt: words(role), draggable: "false", ...more });
  };
  const side = (role) => (data.names[role] === role ? role : `${role}: ${data.names[role]}`);
  const words = (role) => ({ reference: side("reference"), candidate: side("candidate"), difference: "candidate − reference",
    flip: "FLIP: the difference as an eye sees it" }[role]);
  const pane = (caption, ...content) => {
    const inner = h("div", { class: "wd-canvas", style: `width:${base * state.zoom}px` }, content);
    const node = h("div", { class: "wd-pane", tabindex: "0", role: "group", "aria-label": `${caption}; arrow keys move what is seen when zoomed in`,
      style: `width:${base}px;aspect-ratio:${data.columns}/${data.rows}` }, inner);
    node.addEventListener("scroll", () => {
      const others = [...panes.querySelectorAll(".wd-pane")].filter((other) => other !== node);
      for (const other of others) Object.assign(other, { scrollLeft: node.scrollLeft, scrollTop: node.scrollTop });
    });
    return h("figure", { class: "wd-panel wd-fixed" }, h("figcaption", {}, caption), node);
  };

  const views = {
    swipe: () => {
      const figure_ = pane("", image("reference"), image("candidate", { class: "wd-pixels wd-over" }), h("i", { class: "wd-edge" }));
      const node = figure_.querySelector(".wd-pane"), caption = figure_.querySelector("figcaption");
      const range = h("input", { type: "range", min: 0, max: 100, value: state.swipe, "aria-label": "swipe between reference and candidate",
        oninput: () => put(Number(range.value)) });
      const put = (value) => {
        state.swipe = Math.min(100, Math.max(0, Math.round(value)));
        range.value = state.swipe;
        node.style.setProperty("--wd-swipe", `${state.swipe}%`);
        said.textContent = `reference left of ${state.swipe} %, candidate right of it`;
      };
      node.addEventListener("pointermove", (event) => {
        if (event.buttons !== 1) return;
        const box = node.firstChild.getBoundingClientRect();
        put((100 * (event.clientX - box.left)) / box.width);
      });
      caption.append(h("span", {}, words("reference")), h("span", { class: "wd-right" }, words("candidate")));
      put(state.swipe);
      return [[figure_], [range]];
    },
    blink: () => {
      const figure_ = pane("", image("reference"), image("candidate", { class: "wd-pixels wd-top" })), caption = figure_.querySelector("figcaption");
      const turn = (role) => {
        state.shown = role;
        figure_.querySelector(".wd-top").style.visibility = role === "candidate" ? "visible" : "hidden";
        caption.textContent = words(role);
        said.textContent = `shown: the ${role}`;
      };
      const swap = () => turn(state.shown === "reference" ? "candidate" : "reference");
      const run = () => { timer = setInterval(() => (figure_.isConnected ? swap() : clearInterval(timer)), 700); };
      const button = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
        if (timer) { clearInterval(timer); timer = null; } else run();
        button.setAttribute("aria-pressed", String(Boolean(timer)));
        button.textContent = timer ? "⏸ stop blinking" : "▶ blink";
      } }, "▶ blink");
      turn("reference");
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) button.click();
      return [[figure_], [button, h("button", { type: "button", onclick: swap }, "the other one")]];
    },
    side: () => {
      said.textContent = whole ? "both move together when zoomed in" : data.why;
      return [["reference", "candidate"].map((role) => pane(words(role) + (whole ? "" : `, ${data.sizes[role] ?? "none"}`), image(role))), []];
    },
    difference: () => {
      said.textContent = "blue: the candidate is darker; brown: it is brighter";
      return [[pane(words("difference"), image("difference"))], [signedLegend(data.limit)]];
    },
    flip: () => {
      said.textContent = "0: nobody sees a difference; 1: as different as can be";
      return [[pane(words("flip"), image("flip"))], [legend(sequential, 0, data.flipLimit)]];
    },
  };

  const draw = () => {
    clearInterval(timer);
    timer = null;
    const [figures, controls] = views[state.mode]();
    panes.replaceChildren(...figures);
    below.replaceChildren(...controls, said);
  };
  const zoomed = h("output", { class: "wd-said" }, "zoom 1×");
  const zoom = (factor) => {
    state.zoom = Math.min(16, Math.max(1, state.zoom * factor));
    zoomed.textContent = `zoom ${state.zoom}×`;
    for (const inner of panes.querySelectorAll(".wd-canvas")) {
      const outer = inner.parentNode;  // what is in the middle stays there
      const x = (outer.scrollLeft + outer.clientWidth / 2) / inner.offsetWidth, y = (outer.scrollTop + outer.clientHeight / 2) / inner.offsetHeight;
      inner.style.width = `${base * state.zoom}px`;
      outer.scrollLeft = x * inner.offsetWidth - outer.clientWidth / 2;
      outer.scrollTop = y * inner.offsetHeight - outer.clientHeight / 2;
    }
  };
  const set = (key) => (value) => {
    state[key] = value;
    draw();
  };
  const controls = h("div", { class: "wd-controls" }, tabs("compare by", modes, state.mode, set("mode")),
    h("div", { class: "wd-zoom", role: "group", "aria-label": "zoom" },
      h("button", { type: "button", "aria-label": "zoom out", onclick: () => zoom(0.5) }, "−"), zoomed,
      h("button", { type: "button", "aria-label": "zoom in", onclick: () => zoom(2) }, "+")),
    data.frames.length > 1 ? player("picture", data.frames.map((frame) => frame.label), 0, set("frame")).node : null);
  draw();
  return h("section", { class: "wd-pictures", "aria-label": "both pictures" }, controls, panes, below,
    data.figures ? h("p", { class: "wd-soft" }, data.figures) : null);
};
