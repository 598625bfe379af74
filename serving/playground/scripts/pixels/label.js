// Labelled masks: what people drew, read to its values, and which of these are foreground.

import { decodePng, OtherKind } from "./png.js";
import { VOID } from "./tally.js";

const MOST_VALUES = 40; // a file of more is shades of gray

/**
 * Reads a labelled mask.
 * @returns {Promise<{name, width, height, values, found, isShaded, hasVoid, isColoured}>} `found` are the values in it, with
 *   how many pixels; `hasVoid`: 255 stands for pixels of no class, as is usual beside indices of classes
 */
export async function readLabel(file) {
  const picture = await decodePng(new Uint8Array(await file.arrayBuffer())).catch((error) => {
    if (error instanceof OtherKind) return readColours(file);
    throw error;
  });
  const counts = new Uint32Array(65536);
  for (const value of picture.values) counts[value]++;
  const found = [];
  counts.forEach((count, value) => count && found.push({ value, count }));
  const isShaded = found.length > MOST_VALUES;
  return { name: file.name, ...picture, found, isShaded, hasVoid: !isShaded && found.length > 2 && found.at(-1).value === 255 };
}

/** Returns the middle of a label's values. */
export const halfOf = ({ bits }) => 1 << (bits - 1);

/** Returns which values may be chosen as foreground: `{value, text}`; the first is the usual one. */
export function choices(label, classNames) {
  if (label.isShaded) return [{ value: "half", text: `${halfOf(label)} and above` }];
  const nonzero = label.found.filter(({ value }) => value > 0);
  const names = nonzero.map(({ value }) => ({
    value: String(value),
    text: classNames?.[value] && nonzero.length > 1 ? `${value} (${classNames[value]})` : String(value),
  }));
  const all = { value: "all", text: label.hasVoid ? "above 0, but 255" : "above 0" };
  return nonzero.length > 1 ? [all, ...names] : [all];
}

/** Returns a byte for each pixel: 1 foreground, 0 background, `VOID`. */
export function truthOf(label, choice) {
  const truth = new Uint8Array(label.values.length);
  const isForeground = new Uint8Array(65536);
  if (choice === "half") isForeground.fill(1, halfOf(label));
  else if (choice === "all") isForeground.fill(1, 1);
  else isForeground[Number(choice)] = 1;
  if (label.hasVoid && choice !== "255") isForeground[255] = VOID;
  for (let i = 0; i < truth.length; i++) truth[i] = isForeground[label.values[i]];
  return truth;
}

async function readColours(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const colours = context.getImageData(0, 0, width, height).data;
  const values = new Uint8Array(width * height);
  for (let i = 0; i < values.length; i++) {
    values[i] = Math.round(0.299 * colours[4 * i] + 0.587 * colours[4 * i + 1] + 0.114 * colours[4 * i + 2]);
  }
  return { width, height, bits: 8, values, isColoured: true };
}
