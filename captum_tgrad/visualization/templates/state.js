"use strict";
// What is shown now, and small helpers.

const state = {
  view: 0,
  side: "for",
  frames: "each",
  selected: null,  // a term; null is the whole map
  hovered: null,
  pin: null,  // [x, y] in pixels of the canvas
};

const byId = (id) => document.getElementById(id);
const viewNow = () => page.views[state.view];
const indexNow = () => state.hovered ?? state.selected;

/** An element with a class and a text; whatever is in the text stays text. */
function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A term's name, which is broken after a dot where it is too long for its place. */
function nameOf(term) {
  const made = element("span", "name");
  for (const part of term.name.split(/(?<=[.:])/)) made.append(part, element("wbr"));
  return made;
}

/** A number with its sign: three decimals, or three digits where it is small. */
function signed(value) {
  const size = Math.abs(value);
  let text = size >= 0.1 || size === 0 ? size.toFixed(3) : Number(size.toPrecision(3)).toString();
  if (size > 0 && size < 1e-3) text = size.toExponential(2).replace("e-", "e\u2212");
  return (value < 0 ? "\u2212" : "+") + text;
}

const percent = (part) => `${(100 * part).toFixed(1)}%`;
