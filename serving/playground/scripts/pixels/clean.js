// Opening and closing by discs, as the exported graph cleans its masks: done once on the probability, right at every threshold.

import { breathe } from "./png.js";

/** Returns values of 16 bits opened by one radius and closed by another; what lies outside the picture has no say. */
export async function clean(values, width, height, { open = 0, close = 0 }) {
  if (!open && !close) return values;
  let cleaned = values.slice();
  if (open) {
    cleaned = invert(await dilate(invert(cleaned), width, height, open));
    cleaned = await dilate(cleaned, width, height, open);
  }
  if (close) {
    cleaned = await dilate(cleaned, width, height, close);
    cleaned = invert(await dilate(invert(cleaned), width, height, close));
  }
  return cleaned;
}

/** Makes what is low high, in place: so to erode is to dilate. */
function invert(values) {
  for (let i = 0; i < values.length; i++) values[i] = 65535 - values[i];
  return values;
}

/** Returns the largest value of a disc around each pixel: row by row of the disc. */
async function dilate(values, width, height, radius) {
  const result = new Uint16Array(values.length);
  for (let dy = 0; dy <= radius; dy++) {
    const wide = alongRows(values, width, height, Math.floor(Math.sqrt(radius * radius - dy * dy)));
    for (const shift of dy ? [-dy, dy] : [0]) {
      const first = Math.max(0, -shift) * width;
      const end = Math.min(height, height - shift) * width;
      for (let to = first, from = first + shift * width; to < end; to++, from++) {
        if (wide[from] > result[to]) result[to] = wide[from];
      }
    }
    await breathe();
  }
  return result;
}

/** Returns the largest of 2·half + 1 neighbours along each row, by van Herk's running blocks. */
function alongRows(values, width, height, half) {
  if (!half) return values;
  const block = 2 * half + 1;
  const padded = Math.ceil((width + 2 * half) / block) * block;
  const line = new Uint16Array(padded);
  const before = new Uint16Array(padded); // the largest from a block's first to here
  const after = new Uint16Array(padded); // and from here to its last
  const result = new Uint16Array(values.length);
  for (let y = 0; y < height; y++) {
    line.set(values.subarray(y * width, (y + 1) * width), half);
    for (let start = 0; start < padded; start += block) {
      const last = start + block - 1;
      let largest = 0;
      for (let i = start; i <= last; i++) before[i] = largest = line[i] > largest ? line[i] : largest;
      largest = 0;
      for (let i = last; i >= start; i--) after[i] = largest = line[i] > largest ? line[i] : largest;
    }
    const row = y * width;
    for (let x = 0; x < width; x++) {
      const end = before[x + block - 1];
      result[row + x] = after[x] > end ? after[x] : end;
    }
  }
  return result;
}
