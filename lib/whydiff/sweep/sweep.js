"use strict";
// The heat map over any two settings, and the filter of the table. Without this script the first pair and all rows are there.
for (const line of document.querySelectorAll(".choose")) line.hidden = false;

const words = document.getElementById("words");
words.addEventListener("input", () => {
  const wanted = words.value.toLowerCase();
  for (const row of document.querySelectorAll("#cases tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});

const held = document.getElementById("data");
if (held) {
  const { axes, cases } = JSON.parse(held.textContent);
  const [down, across, shown] = ["down", "across", "shown"].map((id) => document.getElementById(id));
  for (const [select, chosen] of [[down, 0], [across, 1]]) {
    axes.forEach((axis, i) => select.add(new Option(axis.key, i, false, i === chosen)));
  }

  const made = (kind, text, scope) => {
    const element = document.createElement(kind);
    element.textContent = text;
    if (scope) element.scope = scope;
    return element;
  };

  const figure = (value) => (value === 0 ? "0" : Number(value.toPrecision(2)).toString());

  function cell(found, largest) {
    const box = made("td", "");
    const done = found.filter((one) => one.state !== "trouble");
    const differ = done.filter((one) => one.state === "differ").length;
    box.title = found.slice(0, 12).map((one) => one.name).join(", ");
    if (!found.length) return box;
    let text, share;
    if (shown.value === "image") {
      const known = done.map((one) => one.image).filter((value) => value !== null && value !== undefined);
      const mean = known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
      text = mean === null ? "–" : figure(mean);
      share = mean === null ? null : largest > 0 ? mean / largest : 0;
    } else {
      text = found.length === 1 ? (differ ? "✗" : done.length ? "=" : "") : differ + "/" + found.length;
      share = done.length ? differ / done.length : null;
    }
    if (found.length > done.length) text += " !";
    if (share !== null) {
      box.className = share > 0 ? (share > 0.45 ? "some deep" : "some") : "none";
      box.style.setProperty("--share", share);
    } else if (found.length > done.length) box.className = "lost";
    if (found.length === 1 && found[0].report) {
      const link = made("a", text);
      link.href = found[0].report.split("/").map(encodeURIComponent).join("/");
      box.append(link);
    } else box.textContent = text;
    return box;
  }

  function draw() {
    const [a, b] = [Number(down.value), Number(across.value)];
    const at = axes[a].values.map((_, i) => axes[b].values.map((_, j) => cases.filter((one) => one.at[a] === i && one.at[b] === j)));
    const mean = (found) => {
      const known = found.map((one) => one.image).filter((value) => typeof value === "number");
      return known.length ? known.reduce((x, y) => x + y, 0) / known.length : 0;
    };
    const largest = Math.max(0, ...at.flat().map(mean));
    const table = document.getElementById("heat");
    const what = shown.value === "image" ? "mean relative distance of the two pictures" : "cases that differ, of all; = and ✗ where there is one";
    document.getElementById("heat-words").replaceChildren(made("code", axes[a].key), " down, ", made("code", axes[b].key), " across; in a cell: " + what);
    const head = document.createElement("thead").appendChild(document.createElement("tr"));
    head.append(made("td", ""), ...axes[b].values.map((value) => made("th", value, "col")));
    const body = document.createElement("tbody");
    axes[a].values.forEach((value, i) => {
      const row = body.appendChild(document.createElement("tr"));
      row.append(made("th", value, "row"), ...at[i].map((found) => cell(found, largest)));
    });
    table.replaceChildren(head.parentElement, body);
  }

  for (const select of [down, across, shown]) select.addEventListener("change", draw);
  draw();
}
