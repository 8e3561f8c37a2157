(() => {
  "use strict";
  const page = document.documentElement;
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  page.classList.add("js");

  // Theme: the system's until somebody chooses.
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (page.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const sayTheme = () => { theme.textContent = isDark() ? "☀ Light" : "☾ Dark"; };
  theme.addEventListener("click", () => { page.dataset.theme = isDark() ? "light" : "dark"; sayTheme(); });
  system.addEventListener("change", sayTheme);
  theme.hidden = false;
  sayTheme();

  // Fold: all at once, and everything open on paper.
  const fold = document.getElementById("fold");
  const sayFold = () => { fold.textContent = all("details:not([open])").length ? "Unfold all" : "Fold all"; };
  fold.addEventListener("click", () => {
    const open = all("details:not([open])").length > 0;
    all("details").forEach((part) => { part.open = open; });
    sayFold();
  });
  document.addEventListener("toggle", sayFold, true);
  fold.hidden = false;
  sayFold();
  let opened = [];
  addEventListener("beforeprint", () => { opened = all("details:not([open])"); opened.forEach((part) => { part.open = true; }); });
  addEventListener("afterprint", () => { opened.forEach((part) => { part.open = false; }); opened = []; });
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Two pictures of one size: swipe, blink, difference.
  for (const box of all(".compare[data-alike]")) {
    const slider = box.querySelector("input");
    const buttons = all("button", box);
    let timer = 0;
    const cut = (percent) => { slider.value = percent; box.style.setProperty("--cut", percent + "%"); };
    const stop = () => { clearInterval(timer); timer = 0; };
    const choose = (mode) => {
      stop();
      box.dataset.mode = mode;
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.value === mode)));
      cut(50);
      if (mode === "blink") {
        cut(0);
        if (!matchMedia("(prefers-reduced-motion: reduce)").matches) timer = setInterval(() => cut(slider.value === "0" ? 100 : 0), 700);
      }
    };
    buttons.forEach((button) => button.addEventListener("click", () => {
      if (box.dataset.mode === "blink" && button.value === "blink") { stop(); cut(slider.value === "0" ? 100 : 0); } else choose(button.value);
    }));
    slider.addEventListener("input", () => { stop(); cut(slider.value); });
    const pair = box.querySelector(".pair");
    const drag = (event) => {
      const { left, width } = pair.getBoundingClientRect();
      stop();
      cut(Math.round(Math.min(100, Math.max(0, (100 * (event.clientX - left)) / width))));
    };
    pair.addEventListener("pointerdown", (event) => {
      if (box.dataset.mode !== "swipe") return;
      pair.setPointerCapture(event.pointerId);
      drag(event);
    });
    pair.addEventListener("pointermove", (event) => { if (event.buttons && box.dataset.mode === "swipe") drag(event); });
    box.querySelector(".controls").hidden = false;
    choose("side");
  }
})();
