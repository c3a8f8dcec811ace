// Sorts and filters the table of cases and shows their slices. No dependency, no request: a case's
// pictures are <img>, and what else is known of it a script that calls lnqCase(), since a page
// opened from disk may load both but neither fetch files nor read the pixels of pictures.
"use strict";

const byId = (id) => document.getElementById(id);
const body = byId("table").tBodies[0];
const head = byId("table").tHead.rows[0];
const listed = [...body.rows]; // in the order of columns.js
const mode = document.body.className;
const KEPT_CASES = 4;

function load(file, done) {
  const script = document.createElement("script");
  script.src = file;
  script.addEventListener("load", done);
  script.addEventListener("load", () => script.remove());
  script.addEventListener("error", () => fail(file));
  document.head.append(script);
}

function fail(file) {
  byId("trouble").textContent = `${file} is missing: was the folder copied as a whole?`;
  byId("trouble").hidden = false;
}

// The table

function sortBy(heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  const column = heading.cellIndex;
  const textual = heading.classList.contains("text") || heading.classList.contains("name");
  const keys = new Map([...body.rows].map((each) => [each, each.cells[column].dataset.value ?? ""]));
  const rows = [...body.rows].sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
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
  const model = byId("of-model")?.value ?? "";
  for (const each of body.rows) {
    const { name, flags } = each.dataset;
    const named = name.toLowerCase().includes(wanted) && (model === "" || each.dataset.model === model);
    each.hidden = !(named && (kind === "" || flags.split(" ").includes(kind)));
  }
  const shown = listed.filter((each) => !each.hidden).length;
  byId("count").value = `${shown} of ${listed.length} ${byId("of-model") ? "rows" : "cases"}`;
  if (shown < listed.length) showWhole(); // what was found may stand below the first hundred
  tellNeighbors();
}

const SHOWN_AT_FIRST = 100; // rows; as in report.css
function showWhole() {
  byId("table").classList.add("whole");
  byId("whole").hidden = true;
}
byId("whole").hidden = listed.length <= SHOWN_AT_FIRST;
byId("whole").textContent = `Show all ${listed.length} rows`;
byId("whole").addEventListener("click", showWhole);

function sortable(heading) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => sortBy(heading));
}

// The columns that are not seen at first are in a file of their own: a thousand cases open at once.
window.lnqColumns = (columns) => {
  for (const { name, heading, cells } of columns) {
    const top = document.createElement("th");
    Object.assign(top, { scope: "col", className: "more", textContent: heading });
    top.dataset.column = name;
    head.lastElementChild.before(top);
    sortable(top);
    cells.forEach(([text, value], k) => {
      const cell = document.createElement("td");
      Object.assign(cell, { className: "more", textContent: text });
      cell.dataset.value = value;
      listed[k].lastElementChild.before(cell);
    });
  }
};
byId("more").addEventListener("change", () => load("columns.js", () => {}), { once: true });

[...head.cells].filter((heading) => heading.textContent).forEach(sortable);
byId("filters").hidden = false;
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("search").addEventListener("input", filter);
byId("kind").addEventListener("change", filter);
byId("of-model")?.addEventListener("change", filter);

// A table that is wider than its place says so.
for (const region of document.querySelectorAll(".scroll")) {
  const hint = document.createElement("p");
  hint.className = "hint";
  hint.textContent = "The table is wider than the window: scroll it sideways →";
  hint.hidden = true;
  region.before(hint);
  const tell = () => {
    if (region.clientWidth) hint.hidden = region.scrollWidth <= region.clientWidth + 1;
  };
  const observer = new ResizeObserver(tell);
  observer.observe(region);
  observer.observe(region.firstElementChild);
}

// Cases

const cases = new Map();
let row = null; // of the case that is wanted; it may still be loading
let shown = null;
let left = 0; // how far the page was scrolled
let entered = null; // the row that was clicked then
let lesion = -1;
let strips = [];
let marks = null; // of all voxels, as numbers of kinds

window.lnqCase = (number, content) => {
  cases.set(number, content);
  if (cases.size > KEPT_CASES) cases.delete(cases.keys().next().value);
};

function addressOf({ dataset }) {
  const parts = dataset.model === undefined ? [dataset.name] : [dataset.name, dataset.model];
  return `#case/${parts.map(encodeURIComponent).join("/")}`;
}

function openLinked() {
  const of = listed.filter((each) => each.dataset.number);
  const found =
    of.find((each) => addressOf(each) === location.hash) ??
    of.find((each) => `#case/${encodeURIComponent(each.dataset.name)}` === location.hash);
  if (found) openCase(found);
  else closeCase();
}

function closeCase() {
  if (byId("viewer").hidden) return;
  byId("viewer").hidden = true;
  document.body.classList.remove("viewing");
  if (!row.getClientRects().length) showWhole(); // "Next" led beyond the first hundred
  scrollTo(0, left);
  row.querySelector("a").focus({ preventScroll: true });
  if (row !== entered) row.scrollIntoView({ block: "nearest" });
}

function openCase(wanted) {
  const before = row;
  row?.removeAttribute("aria-current");
  row = wanted;
  row.setAttribute("aria-current", "true");
  if (byId("viewer").hidden) [left, entered] = [scrollY, row];
  byId("viewer").hidden = false;
  document.body.classList.add("viewing");
  scrollTo(0, 0);
  byId("viewer-title").textContent = row.dataset.name;
  byId("verdict").textContent = row.dataset.verdict ?? "";
  byId("viewer-title").focus();
  tellModels();
  tellNeighbors();
  const { number } = row.dataset;
  const stays = shown !== null && before?.dataset.name === row.dataset.name; // another model of it
  if (cases.has(number)) {
    show(number, stays);
    return;
  }
  byId("looking").hidden = true;
  load(`cases/${number}.js`, () => row.dataset.number === number && show(number, stays));
}

function tellModels() {
  const same = listed.filter((each) => each.dataset.name === row.dataset.name && each.dataset.number);
  byId("models").hidden = row.dataset.model === undefined;
  const named = same.map((each) => new Option(each.dataset.model, addressOf(each)));
  byId("model").replaceChildren(...named);
  byId("model").value = addressOf(row);
}
byId("model").addEventListener("change", () => (location.hash = byId("model").value));

function show(number, stays) {
  shown = cases.get(number);
  strips = [];
  lesion = -1;
  byId("trouble").hidden = true;
  byId("looking").hidden = false;
  const [depth, rows, columns] = shown.size;
  const Numbers = shown.kinds.length <= 256 ? Uint8Array : Uint32Array;
  marks = new Numbers(depth * rows * columns);
  shown.marks.forEach((text, z) => {
    unfold(text, shown.kinds.length, marks.subarray(z * rows * columns, (z + 1) * rows * columns));
  });
  byId("lesions").tBodies[0].replaceChildren(...shown.lesions.map(lesionRow));
  if (levels === null) setWindow(...shown.window);
  applyWindow();
  if (!stays) at = [...shown.first];
  setPlane(plane);
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
  if (next) location.hash = addressOf(next);
}

byId("previous").addEventListener("click", () => follow(-1));
byId("next").addEventListener("click", () => follow(1));
window.addEventListener("hashchange", openLinked);

// Lesions

function lesionRow(each, index) {
  const line = document.createElement("tr");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = each.at[0] + 1;
  button.setAttribute("aria-label", `Go to slice ${each.at[0] + 1}`);
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
  at = [...shown.lesions[index].at];
  goTo(at[plane.axis]);
  const [top, start, bottom, end] = seenBox();
  center((start + end) / 2 / seen().columns, (top + bottom) / 2 / seen().rows);
}

// First row and column of the lesion in the plane, and one past the last ones.
function seenBox() {
  const [low, high] = shown.lesions[lesion].box;
  return [low[plane.down], low[plane.across], high[plane.down], high[plane.across]];
}

function placeRing() {
  const [low, high] = shown.lesions[lesion]?.box ?? [[0, 0, 0], [0, 0, 0]];
  const there = low[plane.axis] <= at[plane.axis] && at[plane.axis] < high[plane.axis];
  byId("ring").hidden = !there;
  [...byId("lesions").tBodies[0].rows].forEach((line, index) => {
    if (index === lesion && there) line.setAttribute("aria-current", "true");
    else line.removeAttribute("aria-current");
  });
  if (!there) return;
  const [top, start, bottom, end] = seenBox();
  const { rows, columns, heightMm, widthMm } = seen();
  const margin = 4; // mm
  const [above, beside] = [(margin * rows) / heightMm, (margin * columns) / widthMm];
  Object.assign(byId("ring").style, {
    left: `${(100 * (start - beside)) / columns}%`,
    top: `${(100 * (top - above)) / rows}%`,
    width: `${(100 * (end - start + 2 * beside)) / columns}%`,
    height: `${(100 * (bottom - top + 2 * above)) / rows}%`,
  });
}

// Planes and slices

const PLANES = {
  axial: { axis: 0, down: 1, across: 2, top: "A", left: "R", from: "head" },
  coronal: { axis: 1, down: 0, across: 2, top: "S", left: "R", from: "front" },
  sagittal: { axis: 2, down: 0, across: 1, top: "S", left: "A", from: "right" },
};
let plane = PLANES.axial;
let at = [0, 0, 0]; // the voxel that all planes go through

// What a plane shows: its voxels and its size.
function seen() {
  const [rows, columns] = [shown.size[plane.down], shown.size[plane.across]];
  const heightMm = rows * shown.spacing[plane.down];
  const widthMm = columns * shown.spacing[plane.across];
  return { rows, columns, heightMm, widthMm };
}

function setPlane(wanted) {
  plane = wanted;
  const { rows, columns } = seen();
  for (const canvas of [byId("gray"), byId("marks")]) [canvas.width, canvas.height] = [columns, rows];
  for (const side of ["top", "left"]) document.querySelector(`.side.${side}`).textContent = plane[side];
  byId("plane").value = Object.keys(PLANES).find((name) => PLANES[name] === plane);
  byId("slice").max = shown.size[plane.axis];
  const places = new Set(shown.lesions.map((each) => each.at[plane.axis] + 1));
  byId("ticks").replaceChildren(...[...places].map((place) => new Option("", place)));
  fit();
  goTo(at[plane.axis]);
}

function goTo(wanted) {
  const { axis } = plane;
  const last = shown.size[axis] - 1;
  at[axis] = Math.min(Math.max(wanted, 0), last);
  const [first, step] = shown.stored[axis];
  byId("slice").value = at[axis] + 1;
  byId("where").value =
    `Slice ${at[axis] + 1} of ${last + 1} from the ${plane.from}, number ${first + at[axis] * step} in the file.`;
  byId("slice").setAttribute("aria-valuetext", `${at[axis] + 1} of ${last + 1}`);
  byId("here").textContent = "";
  measured(null);
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
  const [depth, rows, columns] = shown.size;
  const canvas = byId("gray");
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  if (plane.axis === 2) context.setTransform(0, 1, 1, 0, 0, 0); // rows become columns
  const [, y, x] = at;
  const of = plane.axis === 0 ? [at[0]] : Array(depth).keys();
  for (const z of of) {
    const picture = strip(Math.floor(z / shown.slicesEach));
    if (!picture.complete || !picture.naturalWidth) continue; // drawn when it is there
    const top = (z % shown.slicesEach) * shown.rowsEach;
    if (plane.axis === 0) context.drawImage(picture, 0, top, columns, rows, 0, 0, columns, rows);
    else if (plane.axis === 1) context.drawImage(picture, 0, top + y, columns, 1, 0, z, columns, 1);
    else context.drawImage(picture, x, top, 1, rows, z, 0, 1, rows);
  }
  const index = Math.floor(at[0] / shown.slicesEach);
  for (const near of [index - 1, index + 1]) if (shown.strips[near]) strip(near);
}

// Undo lnqtools.report.runs.encode_slices for one slice.
function unfold(text, count, unfolded) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  let byte = 0;
  const next = () => {
    let [number, factor] = [0, 1];
    while (bytes[byte] > 127) {
      number += (bytes[byte++] - 128) * factor;
      factor *= 128;
    }
    return number + bytes[byte++] * factor;
  };
  for (let voxel = 0; byte < bytes.length; ) {
    const run = next();
    unfolded.fill(run % count, voxel, (voxel += Math.floor(run / count)));
  }
}

function colorNamed(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
  return new Uint32Array(Uint8Array.of(red, green, blue, 255).buffer)[0];
}

function layer(name) {
  const box = byId(`layer-${name}`);
  return box !== null && box.checked;
}

// The name of the color of a mark, or null.
function meaning([first, second]) {
  if (mode === "predicted") return second > 0 && layer("prediction") ? "node" : null;
  if (mode === "compared") {
    const reference = first > 0 && layer("reference");
    const prediction = second > 0 && layer("prediction");
    if (reference && prediction) return "both";
    return reference ? "missed" : prediction ? "false" : null;
  }
  const name = ["background", "node", "unknown"][first];
  const isMask = !shown.kinds.some(([label]) => label === 2); // then background says nothing
  return layer(name) && !(isMask && name === "background") ? name : null;
}

function markAt(row_, column) {
  const [, rows, columns] = shown.size;
  const steps = [rows * columns, columns, 1];
  const { axis, down, across } = plane;
  return marks[at[axis] * steps[axis] + row_ * steps[down] + column * steps[across]];
}

function drawMarks() {
  const { rows, columns } = seen();
  const colors = shown.kinds.map((kind) => {
    const name = meaning(kind);
    return name ? colorNamed(name) : 0;
  });
  const context = byId("marks").getContext("2d");
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let y = 0, i = 0; y < rows; y++) for (let x = 0; x < columns; x++) pixels[i++] = colors[markAt(y, x)];
  thin(pixels, columns, byId("outline").checked ? 0 : byId("opacity").value / 100);
  context.putImageData(image, 0, 0);
}

// Leave a part of the color inside what is drawn; its edge keeps the color of the legend.
function thin(pixels, columns, opacity) {
  const whole = pixels.slice();
  const alpha = Math.round(255 * opacity) * 2 ** 24;
  for (let i = 0; i < whole.length; i++) {
    if (!whole[i]) continue;
    const around = [whole[i - 1], whole[i + 1], whole[i - columns], whole[i + columns]];
    if (around.every((color) => color === whole[i])) pixels[i] = alpha + (whole[i] % 2 ** 24);
  }
}

// Where a pointer is, from 0 to 1 along the sheet.
function placeOf(event) {
  const frame = byId("sheet").getBoundingClientRect();
  return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
}

function tellHere(event) {
  const { rows, columns } = seen();
  const [x, y] = placeOf(event);
  const inside = x >= 0 && x < 1 && y >= 0 && y < 1;
  const [first, second] = inside ? shown.kinds[markAt(Math.floor(y * rows), Math.floor(x * columns))] : [0, 0];
  const parts =
    mode === "labels"
      ? [["background", "node", "unknown"][first] + (second ? ` ${second}` : "")]
      : [first && `reference lesion ${first}`, second && `predicted lesion ${second}`];
  byId("here").textContent = `Here: ${(inside && parts.filter(Boolean).join(", ")) || "nothing drawn"}.`;
}

// The window: pictures hold HU on a scale of their own, which a filter turns into grays.

const WINDOWS = { mediastinum: [40, 400], lung: [-600, 1500], bone: [400, 1800], liver: [60, 160] };
let levels = null; // level and width, HU

function setWindow(level, width) {
  levels = [Math.round(level), Math.max(1, Math.round(width))];
  [byId("level").value, byId("width").value] = levels;
  const isThis = ([, of]) => of[0] === levels[0] && of[1] === levels[1];
  byId("window").value = (Object.entries(WINDOWS).find(isThis) ?? ["free"])[0];
}

function applyWindow() {
  const [level, width] = levels;
  const { hu, grays } = shown.scale;
  const values = Array.from({ length: 256 }, (_, gray) => {
    const k = Math.max(1, grays.findIndex((end) => gray <= end));
    const share = (gray - grays[k - 1]) / (grays[k] - grays[k - 1]);
    const seenHu = hu[k - 1] + share * (hu[k] - hu[k - 1]);
    return Math.min(Math.max((seenHu - level) / width + 0.5, 0), 1).toFixed(4);
  });
  for (const part of document.querySelectorAll("feComponentTransfer > *")) {
    part.setAttribute("tableValues", values.join(" "));
  }
  byId("gray").style.filter = "url(#gray-scale)";
}

function rewindow(level, width) {
  setWindow(level, width);
  applyWindow();
}

byId("window").addEventListener("change", () => {
  const chosen = WINDOWS[byId("window").value];
  if (chosen) rewindow(...chosen);
});
for (const name of ["level", "width"]) {
  byId(name).addEventListener("change", () => rewindow(Number(byId("level").value), Number(byId("width").value)));
}

// The caliper

function measured(ends) {
  byId("caliper").toggleAttribute("hidden", ends === null);
  byId("length").value = "";
  if (ends === null) return;
  const { heightMm, widthMm } = seen();
  const [[x1, y1], [x2, y2]] = ends;
  const mm = Math.hypot((x2 - x1) * widthMm, (y2 - y1) * heightMm).toFixed(1);
  const percent = (share) => `${100 * share}%`;
  for (const line of byId("caliper").querySelectorAll("line")) {
    Object.entries({ x1, y1, x2, y2 }).forEach(([name, share]) => line.setAttribute(name, percent(share)));
  }
  const text = byId("caliper").querySelector("text");
  text.textContent = `${mm} mm`;
  const leftwards = x2 > 0.8; // or the text would leave the picture
  text.setAttribute("text-anchor", leftwards ? "end" : "start");
  Object.entries({ x: percent(x2), y: percent(y2), dx: leftwards ? -8 : 8, dy: -6 }).forEach((pair) => text.setAttribute(...pair));
  byId("length").value = `Distance ${mm} mm.`;
}

// Controls

function fit() {
  const { heightMm, widthMm } = seen();
  const { clientWidth, clientHeight } = byId("stage");
  const zoom = Number(byId("zoom").value) * Math.min(clientWidth / widthMm, clientHeight / heightMm);
  Object.assign(byId("sheet").style, { width: `${zoom * widthMm}px`, height: `${zoom * heightMm}px` });
}
new ResizeObserver(() => shown && fit()).observe(byId("stage"));

function center(x, y) {
  const stage = byId("stage");
  stage.scrollLeft = x * stage.scrollWidth - stage.clientWidth / 2;
  stage.scrollTop = y * stage.scrollHeight - stage.clientHeight / 2;
}

function setZoom(times) {
  const stage = byId("stage");
  const x = (stage.scrollLeft + stage.clientWidth / 2) / stage.scrollWidth;
  const y = (stage.scrollTop + stage.clientHeight / 2) / stage.scrollHeight;
  byId("zoom").value = times;
  fit();
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

const chosenDrag = () => document.querySelector("[name='drag']:checked").value;

function setDrag(wanted) {
  document.querySelector(`[name='drag'][value='${wanted}']`).checked = true;
  for (const each of ["window", "measure", "move"]) byId("looking").classList.toggle(each, each === wanted);
}
byId("drag").addEventListener("change", () => setDrag(chosenDrag()));
setDrag(matchMedia("(pointer: coarse)").matches ? "move" : "window"); // fingers scroll the page

const KEYS = {
  ArrowUp: () => goTo(at[plane.axis] - 1),
  ArrowLeft: () => goTo(at[plane.axis] - 1),
  ArrowDown: () => goTo(at[plane.axis] + 1),
  ArrowRight: () => goTo(at[plane.axis] + 1),
  PageUp: () => goTo(at[plane.axis] - 10),
  PageDown: () => goTo(at[plane.axis] + 10),
  Home: () => goTo(0),
  End: () => goTo(Infinity),
  n: () => goToLesion(lesion + 1),
  p: () => goToLesion(lesion - 1),
  o: toggleOverlay,
  a: () => setPlane(PLANES.axial),
  c: () => setPlane(PLANES.coronal),
  s: () => setPlane(PLANES.sagittal),
  w: () => setDrag("window"),
  m: () => setDrag("measure"),
  v: () => setDrag("move"),
  "+": () => stepZoom(1),
  "-": () => stepZoom(-1),
};

byId("stage").addEventListener("keydown", (event) => {
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  act();
});
byId("viewer").addEventListener("keydown", (event) => {
  if (event.key === "Escape") location.hash = "all"; // which is no place that would be scrolled to
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
    if (steps) goTo(at[plane.axis] + steps);
  },
  { passive: false },
);

const HU_PER_PIXEL = 2;
const DRAGS = {
  window: (event) => rewindow(levels[0] + HU_PER_PIXEL * event.movementY, levels[1] + HU_PER_PIXEL * event.movementX),
  measure: (event) => measured([from, placeOf(event)]),
  move: (event) => event.pointerType === "mouse" && byId("stage").scrollBy(-event.movementX, -event.movementY),
};
let from = null; // where a drag began
byId("stage").addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  from = placeOf(event);
  if (chosenDrag() === "measure") measured(null);
  if (chosenDrag() !== "move") byId("stage").setPointerCapture(event.pointerId);
});
byId("stage").addEventListener("pointermove", (event) => {
  if (from && event.buttons === 1) DRAGS[chosenDrag()](event);
  tellHere(event);
});
for (const name of ["pointerup", "pointercancel"]) byId("stage").addEventListener(name, () => (from = null));

byId("plane").addEventListener("change", () => setPlane(PLANES[byId("plane").value]));
byId("slice").addEventListener("input", () => goTo(byId("slice").value - 1));
byId("zoom").addEventListener("change", () => setZoom(Number(byId("zoom").value)));
for (const control of document.querySelectorAll("#overlay input")) {
  control.addEventListener("input", drawMarks);
}

filter();
openLinked();
