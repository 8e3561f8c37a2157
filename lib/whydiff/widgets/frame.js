// What the frame around a page does when it has loaded, in the document of the notebook or report (`this` is the frame). Where a
// live widget shows the same exhibit, the page steps aside; where the widget's kernel is gone, its error message does.
const frame = this, box = frame.parentElement, output = box.closest(".jp-OutputArea-child"), widget = output?.previousElementSibling;
const hide = (node, hidden) => { if (node) node.style.display = hidden ? "none" : ""; };
const live = () => document.querySelector(`.wd[data-exhibit="${frame.dataset.exhibit}"]`);
const gone = () => !box.closest(".jp-NotebookPanel") || !widget || /model not found/.test(widget.textContent);
const show = () => {
  box.querySelector(".wd-still")?.remove();
  hide(frame, false);
  if (/model not found/.test(widget?.textContent ?? "")) hide(widget, true);
  frame.contentWindow.postMessage("height", "*");
};
addEventListener("message", (event) => {
  if (event.source === frame.contentWindow && event.data.whydiffHeight) frame.style.height = `${event.data.whydiffHeight}px`;
});
const look = (times) => {
  if (live()) return hide(output ?? box, true);
  if (gone() || times === 20) show();
  if (times > 0 && box.isConnected && !(gone() && !output)) setTimeout(look, times > 20 ? 100 : 2000, times - 1);
};
look(frame.dataset.exhibit ? 50 : 0);
