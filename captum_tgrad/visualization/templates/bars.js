"use strict";
// The chart: a bar for each term, which shows the term's map.

const LEAST_SHARE = 0.06;  // of the width, for a resolution to be written below the bars

/** Draws the bars of a view, and below them the resolutions of their maps. */
function drawBars(view) {
  const scores = view.terms.map((term) => term.score);
  const top = Math.max(0, ...scores), whole = top - Math.min(0, ...scores) || 1;
  const bars = byId("bars");
  bars.style.setProperty("--zero", percent(top / whole));
  bars.replaceChildren(...view.terms.map((term, index) => {
    const bar = element("div", `bar ${term.score > 0 ? "for" : "against"}`);
    bar.setAttribute("role", "option");
    bar.setAttribute("aria-label", term.label);
    bar.dataset.index = index;
    bar.tabIndex = -1;
    bar.style.setProperty("--size", Math.abs(term.score) / whole);
    bar.append(element("i"));
    return bar;
  }));
  drawAxis(view);
}

function drawAxis(view) {
  const runs = [];
  for (const term of view.terms) {
    const last = runs[runs.length - 1];
    if (last && last.resolution === term.resolution) last.count++;
    else runs.push({ resolution: term.resolution, count: 1 });
  }
  byId("axis").replaceChildren(...runs.map(({ resolution, count }) => {
    const sides = resolution.split(" x ");
    const square = sides.length === 2 && sides[0] === sides[1];
    const text = square ? `${sides[0]}\u00b2` : resolution.replace(" x ", "\u00d7");
    const run = element("span", "", count < view.terms.length * LEAST_SHARE ? "" : text);
    run.style.flexGrow = count;
    return run;
  }));
}

/** Tells the bar that is shown from the others; it is the one that Tab goes to. */
function showBars() {
  const now = indexNow();
  for (const [index, bar] of [...byId("bars").children].entries()) {
    bar.setAttribute("aria-selected", index === state.selected);
    bar.classList.toggle("now", index === now);
    bar.classList.toggle("past", state.frames === "sum" && now !== null && index < now);
    bar.tabIndex = index === (state.selected ?? 0) ? 0 : -1;
  }
  byId("bars").classList.toggle("one", now !== null);
}

/** The bars that speak at the pin stand out; null for none. */
function markBars(indices) {
  byId("bars").classList.toggle("some", indices !== null);
  for (const [index, bar] of [...byId("bars").children].entries()) {
    bar.classList.toggle("here", indices !== null && indices.has(index));
  }
}

/** Shows a term for good; null for the whole map. */
function select(index, focus = false) {
  state.selected = index === null
    ? null : Math.min(Math.max(index, 0), viewNow().terms.length - 1);
  state.hovered = null;
  show();
  if (focus) byId("bars").children[state.selected ?? 0].focus();
}

function indexUnder(event) {
  const box = byId("bars").getBoundingClientRect(), count = viewNow().terms.length;
  const index = Math.floor((event.clientX - box.left) / box.width * count);
  return Math.min(Math.max(index, 0), count - 1);
}

function hover(index) {
  if (index === state.hovered) return;
  state.hovered = index;
  show();
}

/** The mouse, a finger, which may slide from bar to bar, and the keys. */
function listenToBars() {
  const bars = byId("bars");
  bars.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") hover(indexUnder(event));
    else if (bars.hasPointerCapture(event.pointerId)) select(indexUnder(event));
  });
  bars.addEventListener("pointerdown", (event) => {
    pause();
    if (event.pointerType !== "mouse") bars.setPointerCapture(event.pointerId);
    select(indexUnder(event));
  });
  bars.addEventListener("pointerleave", () => hover(null));
  bars.addEventListener("focusin", (event) => {
    if (event.target.matches(":focus-visible")) select(Number(event.target.dataset.index));
  });
  const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
  bars.addEventListener("keydown", (event) => {
    const now = state.selected ?? 0, last = viewNow().terms.length - 1;
    if (event.key in steps) select(now + steps[event.key], true);
    else if (event.key === "Home") select(0, true);
    else if (event.key === "End") select(last, true);
    else if (event.key === "Escape") select(null);
    else return;
    pause();
    event.preventDefault();
  });
}
