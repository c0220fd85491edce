"use strict";
// Brings photo, bars, film and switches together.

const OPACITY = 80;  // percent, at first

/** Draws what the state says. */
function show() {
  const view = viewNow(), index = indexNow();
  const whole = index === null || state.frames === "sum" ? evidenceOf(view.maps, state.side) : null;
  let values = whole;
  if (index !== null) {
    values = state.frames === "sum"
      ? sumUpTo(view.terms, index, state.side)
      : evidenceOf(view.terms[index].maps, state.side);
  }
  paint(byId("map"), values, limitOf(whole ?? values));
  byId("shown").textContent = captionOf(view, index) + noteOf(values);
  showLegend(view);
  showBars();
  showReadout(view, index);
}

function captionOf(view, index) {
  if (index === null) return "The whole map";
  const { name } = view.terms[index];
  return state.frames === "sum" ? `All terms up to ${name}` : name;
}

/** What a reader must know of a map that has nothing to compare. */
function noteOf(values) {
  if (values.some((value) => value !== values[0])) return "";
  return values[0] === 0 ? ": 0 everywhere" : ": the same everywhere";
}

function showLegend(view) {
  byId("legend").dataset.side = state.side;
  byId("low").textContent = state.side === "both" ? view.sides.against : "0";
  byId("high").textContent = view.sides[state.side === "against" ? "against" : "for"];
}

function showReadout(view, index) {
  const parts = index === null ? wholeParts(view) : termParts(view, index);
  byId("readout").replaceChildren(...parts);
}

function wholeParts(view) {
  const count = (direction) => view.terms.filter((term) => term.score * direction > 0).length;
  const facts = [
    [signed(view.sums.for), `${count(1)} terms ${view.sides.for}`],
    [signed(-view.sums.against), `${count(-1)} terms ${view.sides.against}`],
    [signed(view.residual), "residual"],
    [signed(view.output), `= ${view.outputName}`],
  ];
  return [element("h3", "", "All terms together"), listOf(facts)];
}

function termParts(view, index) {
  const term = view.terms[index];
  const heading = element("h3");
  heading.append(nameOf(term));
  heading.append(element("small", "", `${index + 1} of ${view.terms.length}`));
  const sum = view.terms.slice(0, index + 1).reduce((total, each) => total + each.score, 0);
  const side = state.side === "both" ? (term.score > 0 ? "for" : "against") : state.side;
  const facts = [[signed(term.score), "score", term.score > 0 ? "for" : "against"]];
  if (view.output) facts.push([percent(term.score / Math.abs(view.output)).replace("-", "\u2212"), "of the output"]);
  facts.push([percent(term.shares[side]), `of the map ${view.sides[side]}`]);
  facts.push([signed(sum), "sum up to here"]);
  const evidence = `Evidence ${view.sides.for} ${signed(term.evidence.for).slice(1)}, `
    + `${view.sides.against} ${signed(term.evidence.against).slice(1)}. `;
  const place = term.resolution
    ? `Its map has ${term.resolution.replace(" x ", " \u00d7 ")} cells.`
    : "It has no position on the photo and is spread evenly.";
  const lost = term.resolution && term.placed < 0.9995
    ? ` ${percent(1 - term.placed)} of its evidence has no position and is spread evenly.` : "";
  return [heading, listOf(facts), element("p", "", evidence + place + lost)];
}

function listOf(facts) {
  const list = element("dl");
  for (const [number, meaning, name] of facts) {
    const pair = element("div", name);
    pair.append(element("dt", "", meaning), element("dd", "", number));
    list.append(pair);
  }
  return list;
}

function showView() {
  const view = viewNow();
  byId("summary").textContent = view.summary;
  const texts = byId("sides").querySelectorAll("span");
  texts[0].textContent = view.sides.for;
  texts[1].textContent = view.sides.against;
  drawBars(view);
  showTable(view);
  state.selected = state.selected === null
    ? null : Math.min(state.selected, view.terms.length - 1);
}

function showTable(view) {
  const side = state.side === "against" ? "against" : "for";
  byId("count").textContent = view.terms.length;
  byId("share-title").textContent = `share of the map ${view.sides[side]}`;
  byId("rows").replaceChildren(...view.terms.map((term) => {
    const row = element("tr"), name = element("th", "", term.name);
    name.scope = "row";
    row.append(name, element("td", "", signed(term.score)),
      element("td", "", percent(term.shares[side])),
      element("td", "", term.resolution || "no position"));
    return row;
  }));
}

function listenToSwitches() {
  document.addEventListener("change", ({ target }) => {
    if (target.type !== "radio") return;
    state[target.name] = target.name === "view" ? Number(target.value) : target.value;
    if (target.name !== "frames") showView();
    show();
    showPlace();
  });
  byId("opacity").addEventListener("input", showOpacity);
}

function showOpacity() {
  const percents = byId("opacity").value;
  document.documentElement.style.setProperty("--opacity", percents / 100);
  document.querySelector("output").textContent = `${percents}%`;
}

function start() {
  Object.assign(byId("map"), { width, height });
  byId("views").hidden = page.views.length === 1;
  // A browser that goes back to a page keeps its switches.
  for (const choice of document.querySelectorAll("input[type=radio]")) {
    choice.checked = choice.value === String(state[choice.name]);
  }
  byId("opacity").value = OPACITY;
  showOpacity();
  document.documentElement.classList.add("alive");
  listenToPhoto();
  listenToBars();
  listenToFilm();
  listenToSwitches();
  showView();
  show();
  showPlace();
}

start();
