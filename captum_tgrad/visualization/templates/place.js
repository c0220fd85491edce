"use strict";
// The pin: which terms speak at one place of the photo.

const LISTED = 6;

/** What each term adds to the whole map at a pixel, the largest first. */
function termsAt(view, side, [x, y]) {
  const found = view.terms.map((term, index) => {
    let value = 0;
    for (const each of sidesOf(side)) {
      value += directionOf(each) * weightOf(term, each) * valueAt(term.maps[each], x, y);
    }
    return { index, value };
  });
  return found.filter((each) => each.value !== 0)
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
}

/** Sets the pin at a pixel of the canvas, or takes it away. */
function setPin(place) {
  state.pin = place && [
    Math.min(Math.max(Math.round(place[0]), 0), width - 1),
    Math.min(Math.max(Math.round(place[1]), 0), height - 1),
  ];
  showPlace();
}

function showPlace() {
  const pin = byId("pin"), box = byId("place");
  pin.hidden = state.pin === null;
  box.replaceChildren();
  markBars(null);
  if (state.pin === null) {
    box.append(element("p", "hint", "Click the photo to list the terms there."));
    return;
  }
  pin.style.left = `${100 * (state.pin[0] + 0.5) / width}%`;
  pin.style.top = `${100 * (state.pin[1] + 0.5) / height}%`;
  const view = viewNow(), found = termsAt(view, state.side, state.pin);
  box.append(headingOf(view, found));
  const total = found.reduce((sum, each) => sum + Math.abs(each.value), 0);
  const list = element("ol");
  for (const each of found.slice(0, LISTED)) {
    list.append(entryOf(view.terms[each.index], each, total));
  }
  box.append(list);
  markBars(new Set(found.slice(0, LISTED).map((each) => each.index)));
}

function headingOf(view, found) {
  const heading = element("h3");
  const value = found.reduce((sum, each) => sum + each.value, 0);
  if (state.side === "both") {
    const total = found.reduce((sum, each) => sum + Math.abs(each.value), 0);
    const part = total ? (1 + value / total) / 2 : 0;
    heading.textContent =
      `At the pin: ${percent(part)} ${view.sides.for}, ${percent(1 - part)} ${view.sides.against}`;
    return heading;
  }
  const mean = view.sums[state.side] / (width * height);
  const times = mean ? (Math.abs(value) / mean).toFixed(1) : "0";
  heading.textContent = `At the pin, the map is ${times} times its mean. Shares:`;
  return heading;
}

function entryOf(term, { index, value }, total) {
  const button = element("button", value > 0 ? "for" : "against");
  button.type = "button";
  const bar = element("i");
  bar.style.width = percent(Math.abs(value) / total);
  button.append(bar, nameOf(term),
    element("span", "part", percent(Math.abs(value) / total)));
  button.addEventListener("click", () => select(index));
  const entry = element("li");
  entry.append(button);
  return entry;
}

/** The pin is set with the mouse, a finger or the keys. */
function listenToPhoto() {
  const stage = byId("stage");
  stage.tabIndex = 0;
  stage.addEventListener("click", (event) => {
    const box = stage.getBoundingClientRect();
    setPin([
      (event.clientX - box.left) / box.width * width - 0.5,
      (event.clientY - box.top) / box.height * height - 0.5,
    ]);
    byId("place").scrollIntoView({ block: "nearest" });  // on a phone it is further down
  });
  const step = Math.max(1, Math.max(width, height) / 28);
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  stage.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      setPin(null);
    } else if (state.pin === null && (event.key === "Enter" || event.key in steps)) {
      setPin([width / 2, height / 2]);
    } else if (event.key in steps) {
      const [right, down] = steps[event.key];
      setPin([state.pin[0] + right * step, state.pin[1] + down * step]);
    } else {
      return;
    }
    event.preventDefault();
  });
}
