"use strict";
// The film: the layers one after the other, as in the paper's Fig. 2.

const MILLISECONDS = 260;
let timer = null;

function play() {
  const last = viewNow().terms.length - 1;
  if (state.selected === null || state.selected === last) select(0);
  timer = setInterval(() => {
    select(state.selected + 1);
    if (state.selected === viewNow().terms.length - 1) pause();
  }, MILLISECONDS);
  showPlaying();
}

function pause() {
  if (timer === null) return;
  clearInterval(timer);
  timer = null;
  showPlaying();
}

function showPlaying() {
  const playing = timer !== null;
  const [sign, text] = byId("play").children;
  sign.textContent = playing ? "\u275a\u275a" : "\u25b6\ufe0e";
  text.textContent = playing ? "Pause" : "Play the layers";
  // Four terms a second are too many to be read aloud.
  byId("readout").setAttribute("aria-live", playing ? "off" : "polite");
}

function listenToFilm() {
  byId("play").addEventListener("click", () => (timer === null ? play() : pause()));
  const step = (by) => {
    pause();
    select(state.selected === null ? 0 : state.selected + by);
  };
  byId("back").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("whole").addEventListener("click", () => {
    pause();
    select(null);
  });
}
