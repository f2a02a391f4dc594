// The page of a run: grids over time with play and slider, copy buttons, and a note when a running run is silent.
"use strict";
const grids = [...document.querySelectorAll(".frames .frame")], gridSteps = grids.map(grid => Number(grid.dataset.step));
const playButton = document.getElementById("play"), slider = document.getElementById("slider");
let current = grids.length - 1, timer = 0;

function show(index) {
  current = clamp(index, 0, grids.length - 1);
  grids.forEach((grid, i) => grid.classList.toggle("on", i === current));
  slider.value = current;
  document.getElementById("step").textContent = "step " + formatNumber(gridSteps[current]);
  document.dispatchEvent(new CustomEvent("mark", {detail: gridSteps[current]}));
}

// The address keeps the step; at the end it follows the newest grid of a running run.
function showAndRemember(index) {
  show(index);
  remember("step", current === grids.length - 1 ? null : gridSteps[current]);
}

function setPlaying(playing) {
  playButton.classList.toggle("on", playing);
  playButton.setAttribute("aria-label", playing ? "Pause" : "Play");
}

function pause() {
  clearInterval(timer);
  timer = 0;
  setPlaying(false);
}

function togglePlay() {
  if (timer) return pause();
  setPlaying(true);
  if (current === grids.length - 1) show(0);
  timer = setInterval(() => {
    showAndRemember(current + 1);
    if (current === grids.length - 1) pause();
  }, 220);
}

function seek(step) {
  pause();
  showAndRemember(nearest(gridSteps, step));
}

function seekAddress() {
  const step = parseInt(remembered("step"), 10);
  if (!Number.isNaN(step)) seek(step);
}

if (grids.length) {
  slider.addEventListener("input", () => { pause(); showAndRemember(Number(slider.value)); });
  playButton.addEventListener("click", togglePlay);
  document.addEventListener("seek", event => seek(event.detail));
  addEventListener("hashchange", seekAddress);
  addEventListener("keydown", event => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, textarea, select")) return;
    const offset = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!offset) return;
    event.preventDefault();
    pause();
    showAndRemember(current + offset);
  });
  show(current);
  seekAddress();
}

for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", async () => {
  const code = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "selected";
  }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
});

const minutes = Math.round((Date.now() / 1000 - data.written) / 60);
if (data.running && minutes >= 15) {
  const time = minutes < 120 ? minutes + " minutes" : Math.round(minutes / 60) + " hours";
  const note = document.getElementById("stale");
  note.textContent = `No news for ${time}: if the process is gone, resume it with the command below.`;
  note.hidden = false;
}
