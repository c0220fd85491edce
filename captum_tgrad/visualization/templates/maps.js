"use strict";
// Maps: read, enlarged, added up, colored. Evidence against is below 0 here.

const page = JSON.parse(document.getElementById("numbers").textContent);
const [height, width] = page.views[0].maps.for.size;
const OUTLIERS = 0.02;  // of a map's sum, as in the figures
const FAINTEST = 0.65;  // how much a place without evidence darkens the photo

const readCells = new WeakMap();
const axes = new Map();
const ramps = { for: rampOf(page.ramps.for), against: rampOf(page.ramps.against) };

/** The cells of a stored map, as numbers. */
function cellsOf(stored) {
  if (!readCells.has(stored)) {
    const bytes = atob(stored.cells);
    const cells = new Float32Array(bytes.length);
    for (let i = 0; i < cells.length; i++) {
      cells[i] = stored.largest * (bytes.charCodeAt(i) / page.levels) ** 2;
    }
    readCells.set(stored, cells);
  }
  return readCells.get(stored);
}

/** Linear interpolation of `cells` to `pixels`: neighbors, their parts, and the weight of a cell. */
function axisOf(cells, pixels) {
  const key = `${cells} ${pixels}`;
  if (!axes.has(key)) {
    const axis = { left: [], right: [], part: [], weight: new Float64Array(cells) };
    for (let i = 0; i < pixels; i++) {
      const place = Math.min(Math.max((i + 0.5) * cells / pixels - 0.5, 0), cells - 1);
      const left = Math.floor(place), right = Math.min(left + 1, cells - 1), part = place - left;
      axis.left.push(left);
      axis.right.push(right);
      axis.part.push(part);
      axis.weight[left] += 1 - part;
      axis.weight[right] += part;
    }
    axes.set(key, axis);
  }
  return axes.get(key);
}

/** A map at the size of the canvas. */
function enlarged(cells, [h, w]) {
  if (h === height && w === width) return cells;
  const rows = axisOf(h, height), columns = axisOf(w, width);
  const wide = new Float32Array(h * width), found = new Float32Array(height * width);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < width; x++) {
      const a = cells[y * w + columns.left[x]], b = cells[y * w + columns.right[x]];
      wide[y * width + x] = a + (b - a) * columns.part[x];
    }
  }
  for (let y = 0; y < height; y++) {
    const top = rows.left[y] * width, bottom = rows.right[y] * width, part = rows.part[y];
    for (let x = 0; x < width; x++) {
      found[y * width + x] = wide[top + x] + (wide[bottom + x] - wide[top + x]) * part;
    }
  }
  return found;
}

/** The value of a stored map at a pixel of the canvas. */
function valueAt(stored, x, y) {
  const cells = cellsOf(stored), [h, w] = stored.size;
  const rows = axisOf(h, height), columns = axisOf(w, width);
  const inRow = (row) => {
    const a = cells[row * w + columns.left[x]], b = cells[row * w + columns.right[x]];
    return a + (b - a) * columns.part[x];
  };
  const a = inRow(rows.left[y]), b = inRow(rows.right[y]);
  return a + (b - a) * rows.part[y];
}

/** What a unit of a term's map weighs in the whole map: its score by the sum of the map. */
function weightOf(term, side) {
  const score = side === "for" ? term.score : -term.score;
  if (score <= 0) return 0;
  const stored = term.maps[side], cells = cellsOf(stored), [h, w] = stored.size;
  const rows = axisOf(h, height), columns = axisOf(w, width);
  let mass = 0;
  for (let i = 0; i < cells.length; i++) {
    mass += cells[i] * rows.weight[Math.floor(i / w)] * columns.weight[i % w];
  }
  return mass > 0 ? score / mass : 0;
}

const sidesOf = (side) => (side === "both" ? ["for", "against"] : [side]);
const directionOf = (side) => (side === "for" ? 1 : -1);

/** The evidence of stored maps at the size of the canvas: for, against, or the difference. */
function evidenceOf(maps, side) {
  const found = new Float32Array(height * width);
  for (const each of sidesOf(side)) {
    const values = enlarged(cellsOf(maps[each]), maps[each].size);
    for (let i = 0; i < found.length; i++) found[i] += directionOf(each) * values[i];
  }
  return found;
}

/** The terms from the first to `last`, added up as in the whole map. */
function sumUpTo(terms, last, side) {
  const bySize = new Map();
  for (const term of terms.slice(0, last + 1)) {
    for (const each of sidesOf(side)) {
      const stored = term.maps[each], cells = cellsOf(stored);
      const weight = weightOf(term, each) * directionOf(each);
      if (weight === 0) continue;
      const key = stored.size.join();
      if (!bySize.has(key)) bySize.set(key, [new Float32Array(cells.length), stored.size]);
      const [sum] = bySize.get(key);
      for (let i = 0; i < sum.length; i++) sum[i] += weight * cells[i];
    }
  }
  const found = new Float32Array(height * width);
  for (const [sum, size] of bySize.values()) {
    const values = enlarged(sum, size);
    for (let i = 0; i < found.length; i++) found[i] += values[i];
  }
  return found;
}

/** The value above which 2% of a map lie; it gets the strongest color. */
function limitOf(values) {
  const sorted = values.map(Math.abs).sort();
  let total = 0, sum = 0, place = 0;
  for (const value of sorted) total += value;
  while (place < sorted.length - 1 && (sum += sorted[place]) < total * (1 - OUTLIERS)) place++;
  return sorted[place] || 1;
}

/** 256 colors between a ramp's stops. */
function rampOf(stops) {
  const colors = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (colors.length - 1);
    const left = Math.min(Math.floor(place), colors.length - 2), part = place - left;
    return colors[left].map((from, channel) => from + (colors[left + 1][channel] - from) * part);
  });
}

/** Draws a map; `limit` gets the strongest color. */
function paint(canvas, values, limit) {
  const context = canvas.getContext("2d"), drawn = context.createImageData(width, height);
  for (let i = 0; i < values.length; i++) {
    const level = Math.round(Math.min(Math.abs(values[i]) / limit, 1) * 255);
    drawn.data.set((values[i] < 0 ? ramps.against : ramps.for)[level], 4 * i);
    drawn.data[4 * i + 3] = 255 * (FAINTEST + (1 - FAINTEST) * level / 255);
  }
  context.putImageData(drawn, 0, 0);
}
