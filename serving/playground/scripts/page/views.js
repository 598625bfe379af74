// What each view shows: a table from a pixel's value to its colour, laid over the photograph.

import { VOID, WHITE } from "../pixels/tally.js";

/** The views in their order, as they are named on their button and in a sentence. */
export const VIEWS = [
  { name: "mask", title: "Mask", noun: "mask" },
  { name: "masked", title: "Masked image", noun: "masked image" },
  { name: "cutout", title: "Cut-out", noun: "cut-out" },
  { name: "overlay", title: "Overlay", noun: "overlay" },
  { name: "probability", title: "Probability", noun: "probability" },
  { name: "classes", title: "Classes", noun: "class map" },
  { name: "compare", title: "Compare", noun: "comparison" },
];

const TINT = [255, 40, 40]; // the client's own overlay
const CHECKERS = [[204, 204, 204], [255, 255, 255]];
const DIM = [0, 0, 0, 96];
export const AGREED = [0, 158, 115];
export const EXTRA = [255, 176, 0];
export const MISSED = [220, 38, 127];
const FIRST_CLASSES = [
  [90, 98, 110], [0, 114, 178], [230, 159, 0], [0, 158, 115], [213, 94, 0], [204, 121, 167], [86, 180, 233], [240, 228, 66],
];
const HEAT = [[13, 8, 60], [72, 20, 120], [140, 41, 129], [205, 64, 113], [246, 110, 92], [254, 175, 119], [252, 253, 191]];

/** Returns a colour as the four bytes of a pixel in a canvas (little-endian). */
function pixel([red, green, blue], alpha = 255) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

export function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/** Returns the colour of a class; the first are told apart by everybody, the rest lie around the circle of hues. */
export function classColour(index) {
  if (index < FIRST_CLASSES.length) return FIRST_CLASSES[index];
  const hue = (index * 137.508) % 360;
  const light = 0.42 + 0.16 * (index % 3);
  const part = (shift) => {
    const k = (shift + hue / 30) % 12;
    return Math.round(255 * (light - 0.7 * Math.min(light, 1 - light) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [part(0), part(8), part(4)];
}

/** Returns the colour of a probability, 0 to 1. */
export function heat(probability) {
  const at = probability * (HEAT.length - 1);
  const index = Math.min(HEAT.length - 2, Math.floor(at));
  return HEAT[index].map((from, i) => Math.round(from + (HEAT[index + 1][i] - from) * (at - index)));
}

/** Returns which of so many values are foreground: those above `last`. */
export function insideAbove(levels, last) {
  return new Uint8Array(levels).fill(1, last + 1);
}

/** Returns which values are foreground: one alone. */
export function insideClass(levels, index) {
  const inside = new Uint8Array(levels);
  inside[index] = 1;
  return inside;
}

/** Returns a colour written as `#rrggbb`. */
export function readColour(text) {
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

/**
 * Returns the tables of a view: for even and for odd fields of a checkerboard, which are the same for most.
 * @param {string} view
 * @param {Uint8Array} inside by value: whether it is foreground
 * @param {{background: number[], isSoft: boolean}} how of masked images; soft ones mix by the probability
 */
export function tables(view, inside, how) {
  const levels = inside.length;
  const fill = (colour) => {
    const table = new Uint32Array(levels);
    for (let level = 0; level < levels; level++) table[level] = colour(level);
    return table;
  };
  const both = (table) => [table, table];
  const outside = (colour) => (level) =>
    pixel(colour, how.isSoft ? 255 - Math.round((255 * level) / WHITE) : inside[level] ? 0 : 255);
  switch (view) {
    case "masked": return both(fill(outside(how.background)));
    case "alpha": return both(fill((level) => pixel([0, 0, 0], how.isSoft ? Math.round((255 * level) / WHITE) : 255 * inside[level])));
    case "cutout": return CHECKERS.map((colour) => fill(outside(colour)));
    case "overlay": return both(fill((level) => (inside[level] ? pixel(TINT, 128) : 0)));
    case "probability": return both(fill((level) => pixel(heat(level / (levels - 1)))));
    case "classes": return both(fill((level) => pixel(classColour(level), 205)));
    case "compare": return both(compared(inside));
    default: return both(fill((level) => (inside[level] ? pixel([255, 255, 255]) : pixel([0, 0, 0]))));
  }
}

/** Returns the table of a comparison: a block of all values for each of a label's (0, 1 and `VOID`). */
function compared(inside) {
  const levels = inside.length;
  const table = new Uint32Array(levels * (VOID + 1));
  const dim = pixel(DIM, DIM[3]);
  for (let level = 0; level < levels; level++) {
    table[level] = inside[level] ? pixel(EXTRA) : dim;
    table[levels + level] = inside[level] ? pixel(AGREED, 120) : pixel(MISSED);
    table[VOID * levels + level] = pixel([128, 128, 128], 160);
  }
  return table;
}
