// Sorts and filters the table of cases and shows their slices. No dependency, no request: a case's
// pictures are <img>, and its marks a script that calls lnqCase(), since a page opened from disk
// may load both but neither fetch files nor read the pixels of pictures.
"use strict";

const byId = (id) => document.getElementById(id);
const body = byId("table").tBodies[0];
const comparing = document.body.classList.contains("compared");
const KEPT_CASES = 4;

// The table

function sortBy(heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  const column = heading.cellIndex;
  const key = (row) => row.cells[column].dataset.value ?? "";
  const textual = heading.classList.contains("text") || heading.classList.contains("name");
  const rows = [...body.rows].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === "" || b === "") return (a === "") - (b === ""); // undefined values come last
    const order = textual ? a.localeCompare(b, "en", { numeric: true }) : a - b;
    return down ? -order : order;
  });
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
  tellNeighbors();
}

function filter() {
  const wanted = byId("search").value.toLowerCase();
  const kind = byId("kind").value;
  for (const row of body.rows) {
    const named = row.dataset.name.toLowerCase().includes(wanted);
    row.hidden = !(named && (kind === "" || row.dataset.flags.split(" ").includes(kind)));
  }
  const shown = [...body.rows].filter((row) => !row.hidden).length;
  byId("count").value = `${shown} of ${body.rows.length} cases`;
  tellNeighbors();
}

for (const heading of byId("table").tHead.rows[0].cells) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => sortBy(heading));
}
byId("filters").hidden = false;
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("search").addEventListener("input", filter);
byId("kind").addEventListener("change", filter);

// Cases

const cases = new Map();
let row = null; // of the case that is wanted; it may still be loading
let shown = null;
let slice = 0;
let lesion = -1;
let strips = [];
let numbers = null; // marks of the slice

window.lnqCase = (number, content) => {
  cases.set(number, content);
  if (cases.size > KEPT_CASES) cases.delete(cases.keys().next().value);
};

function openLinked() {
  if (!location.hash.startsWith("#case/")) return;
  const name = location.hash.slice("#case/".length);
  const isNamed = (r) => r.dataset.number && encodeURIComponent(r.dataset.name) === name;
  const found = [...body.rows].find(isNamed);
  if (found) openCase(found);
}

function openCase(wanted) {
  row?.removeAttribute("aria-current");
  row = wanted;
  row.setAttribute("aria-current", "true");
  byId("viewer").hidden = false;
  byId("viewer-title").textContent = row.dataset.name;
  byId("viewer-title").focus();
  tellNeighbors();
  const { number } = row.dataset;
  if (cases.has(number)) {
    show(number);
    return;
  }
  byId("looking").hidden = true;
  const script = document.createElement("script");
  script.src = `cases/${number}.js`;
  script.addEventListener("load", () => row.dataset.number === number && show(number));
  script.addEventListener("error", () => fail(`cases/${number}.js`));
  script.addEventListener("load", () => script.remove());
  document.head.append(script);
}

function fail(file) {
  byId("trouble").textContent = `${file} is missing: was the folder copied as a whole?`;
  byId("trouble").hidden = false;
}

function show(number) {
  shown = cases.get(number);
  strips = [];
  lesion = -1;
  byId("trouble").hidden = true;
  byId("looking").hidden = false;
  const [depth, rows, columns] = shown.size;
  for (const canvas of [byId("gray"), byId("marks")]) [canvas.width, canvas.height] = [columns, rows];
  const aspect = (columns * shown.spacing[2]) / (rows * shown.spacing[1]);
  byId("stage").style.maxWidth = `calc(75vh * ${aspect})`;
  byId("sheet").style.aspectRatio = aspect;
  byId("slice").max = depth;
  byId("ticks").replaceChildren(
    ...[...new Set(shown.lesions.map((each) => each.slice))].map((k) => new Option("", k + 1)),
  );
  byId("lesions").tBodies[0].replaceChildren(...shown.lesions.map(lesionRow));
  goTo(shown.first);
}

function visibleRows() {
  return [...body.rows].filter((r) => r.dataset.number && !r.hidden);
}

function neighbor(step) {
  const rows = visibleRows();
  return row && rows.includes(row) ? rows[rows.indexOf(row) + step] : rows[0];
}

function tellNeighbors() {
  byId("previous").disabled = !neighbor(-1);
  byId("next").disabled = !neighbor(1);
}

function follow(step) {
  const next = neighbor(step);
  if (next) location.hash = `case/${encodeURIComponent(next.dataset.name)}`;
}

byId("previous").addEventListener("click", () => follow(-1));
byId("next").addEventListener("click", () => follow(1));
window.addEventListener("hashchange", openLinked);

// Lesions

function lesionRow(each, index) {
  const line = document.createElement("tr");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = each.slice + 1;
  button.setAttribute("aria-label", `Go to slice ${each.slice + 1}`);
  line.insertCell().append(button);
  for (const [text, name] of each.cells) {
    const cell = line.insertCell();
    cell.textContent = text;
    if (name) cell.className = name;
  }
  line.addEventListener("click", () => goToLesion(index));
  return line;
}

function goToLesion(index) {
  if (!shown.lesions[index]) return;
  lesion = index;
  goTo(shown.lesions[index].slice);
  const [top, left, bottom, right] = shown.lesions[index].box;
  const [, rows, columns] = shown.size;
  center((left + right) / 2 / columns, (top + bottom) / 2 / rows);
}

function placeRing() {
  const there = shown.lesions[lesion]?.slice === slice;
  byId("ring").hidden = !there;
  [...byId("lesions").tBodies[0].rows].forEach((line, index) => {
    if (index === lesion && there) line.setAttribute("aria-current", "true");
    else line.removeAttribute("aria-current");
  });
  if (!there) return;
  const [top, left, bottom, right] = shown.lesions[lesion].box;
  const [, rows, columns] = shown.size;
  const margin = 4; // voxels
  Object.assign(byId("ring").style, {
    left: `${(100 * (left - margin)) / columns}%`,
    top: `${(100 * (top - margin)) / rows}%`,
    width: `${(100 * (right - left + 2 * margin)) / columns}%`,
    height: `${(100 * (bottom - top + 2 * margin)) / rows}%`,
  });
}

// Slices

function goTo(wanted) {
  slice = Math.min(Math.max(wanted, 0), shown.size[0] - 1);
  const stored = shown.stored[0] + slice * shown.stored[1];
  byId("slice").value = slice + 1;
  byId("where").value = `Slice ${slice + 1} of ${shown.size[0]} from the head, number ${stored} in the file.`;
  byId("slice").setAttribute("aria-valuetext", `${slice + 1} of ${shown.size[0]}`);
  byId("under").textContent = "";
  drawGray();
  drawMarks();
  placeRing();
}

function strip(index) {
  if (!strips[index]) {
    strips[index] = new Image();
    strips[index].addEventListener("load", drawGray);
    strips[index].addEventListener("error", () => fail(shown.strips[index]));
    strips[index].src = shown.strips[index];
  }
  return strips[index];
}

function drawGray() {
  const [, rows, columns] = shown.size;
  const index = Math.floor(slice / shown.slicesEach);
  const picture = strip(index);
  const context = byId("gray").getContext("2d");
  context.clearRect(0, 0, columns, rows);
  if (!picture.complete || !picture.naturalWidth) return; // drawn when it is there
  const top = (slice % shown.slicesEach) * shown.rowsEach;
  context.drawImage(picture, 0, top, columns, rows, 0, 0, columns, rows);
  for (const near of [index - 1, index + 1]) if (shown.strips[near]) strip(near);
}

// Undo lnqtools.report.runs.encode_slices for one slice.
function unfold(text, count, size) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const unfolded = new Uint32Array(size);
  let at = 0;
  const next = () => {
    let [number, factor] = [0, 1];
    while (bytes[at] > 127) {
      number += (bytes[at++] - 128) * factor;
      factor *= 128;
    }
    return number + bytes[at++] * factor;
  };
  for (let voxel = 0; at < bytes.length; ) {
    const run = next();
    unfolded.fill(run % count, voxel, (voxel += Math.floor(run / count)));
  }
  return unfolded;
}

function colorNamed(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return new Uint32Array(Uint8Array.of(red, green, blue, 255).buffer)[0];
}

function layer(name) {
  const box = byId(`layer-${name}`);
  return box !== null && box.checked;
}

// The name of the color of a mark, or null.
function meaning([first, second]) {
  if (comparing) {
    const reference = first > 0 && layer("reference");
    const prediction = second > 0 && layer("prediction");
    if (reference && prediction) return "both";
    return reference ? "missed" : prediction ? "false" : null;
  }
  const name = ["background", "node", "unknown"][first];
  const isMask = !shown.kinds.some(([label]) => label === 2); // then background says nothing
  return layer(name) && !(isMask && name === "background") ? name : null;
}

function drawMarks() {
  const [, rows, columns] = shown.size;
  numbers = unfold(shown.marks[slice], shown.kinds.length, rows * columns);
  const colors = shown.kinds.map((kind) => {
    const name = meaning(kind);
    return name ? colorNamed(name) : 0;
  });
  const context = byId("marks").getContext("2d");
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < numbers.length; i++) pixels[i] = colors[numbers[i]];
  if (byId("outline").checked) keepOutlines(pixels, columns);
  context.putImageData(image, 0, 0);
  byId("marks").style.opacity = byId("outline").checked ? 1 : byId("opacity").value / 100;
}

function keepOutlines(pixels, columns) {
  const whole = pixels.slice();
  for (let i = 0; i < whole.length; i++) {
    const around = [whole[i - 1], whole[i + 1], whole[i - columns], whole[i + columns]];
    if (around.every((color) => color === whole[i])) pixels[i] = 0;
  }
}

function tellUnder(event) {
  const [, rows, columns] = shown.size;
  const frame = byId("marks").getBoundingClientRect();
  const x = Math.floor(((event.clientX - frame.left) / frame.width) * columns);
  const y = Math.floor(((event.clientY - frame.top) / frame.height) * rows);
  const [first, second] = shown.kinds[numbers[y * columns + x] ?? 0];
  const parts = comparing
    ? [first && `reference lesion ${first}`, second && `predicted lesion ${second}`]
    : [["background", "node", "unknown"][first] + (second ? ` ${second}` : "")];
  byId("under").textContent = `Here: ${parts.filter(Boolean).join(", ") || "nothing drawn"}.`;
}

// Controls

function center(x, y) {
  const stage = byId("stage");
  stage.scrollLeft = x * stage.scrollWidth - stage.clientWidth / 2;
  stage.scrollTop = y * stage.scrollHeight - stage.clientHeight / 2;
}

function setZoom(times) {
  const stage = byId("stage");
  const x = (stage.scrollLeft + stage.clientWidth / 2) / stage.scrollWidth;
  const y = (stage.scrollTop + stage.clientHeight / 2) / stage.scrollHeight;
  stage.style.height = times > 1 ? `${stage.clientHeight}px` : "";
  byId("sheet").style.width = `${100 * times}%`;
  byId("zoom").value = times;
  center(x, y);
}

function stepZoom(step) {
  setZoom(Math.min(Math.max(Number(byId("zoom").value) + step, 1), 4));
}

let hiddenLayers = [];
function toggleOverlay() {
  const boxes = [...document.querySelectorAll("input[id^='layer-']")];
  const checked = boxes.filter((box) => box.checked);
  for (const box of checked.length ? checked : hiddenLayers) box.checked = !checked.length;
  if (checked.length) hiddenLayers = checked;
  drawMarks();
}

const KEYS = {
  ArrowUp: () => goTo(slice - 1),
  ArrowLeft: () => goTo(slice - 1),
  ArrowDown: () => goTo(slice + 1),
  ArrowRight: () => goTo(slice + 1),
  PageUp: () => goTo(slice - 10),
  PageDown: () => goTo(slice + 10),
  Home: () => goTo(0),
  End: () => goTo(Infinity),
  n: () => goToLesion(lesion + 1),
  p: () => goToLesion(lesion - 1),
  o: toggleOverlay,
  "+": () => stepZoom(1),
  "-": () => stepZoom(-1),
};

byId("stage").addEventListener("keydown", (event) => {
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  act();
});

const NOTCH = 100; // pixels that a wheel turns at once, in most browsers; Firefox says three lines
let turned = 0; // pixels that have not made a slice yet
byId("stage").addEventListener(
  "wheel",
  (event) => {
    if (event.ctrlKey) return; // the browser's own zoom
    event.preventDefault();
    turned += event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : (event.deltaY * NOTCH) / 3;
    const steps = Math.trunc(turned / NOTCH);
    turned -= NOTCH * steps;
    if (steps) goTo(slice + steps);
  },
  { passive: false },
);

byId("stage").addEventListener("pointermove", (event) => {
  if (event.buttons === 1 && event.pointerType === "mouse") {
    byId("stage").scrollBy(-event.movementX, -event.movementY);
  }
  tellUnder(event);
});
byId("slice").addEventListener("input", () => goTo(byId("slice").value - 1));
byId("zoom").addEventListener("change", () => setZoom(Number(byId("zoom").value)));
for (const control of document.querySelectorAll("fieldset input")) {
  control.addEventListener("input", drawMarks);
}

filter();
openLinked();
