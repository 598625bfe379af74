// PNG files read to their exact values. A canvas would give 8 bits of the 16, and colours in place of a palette's indices.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const GRAY = 0;
const PALETTE = 3;
const SLICE_MS = 12; // between two breaths of a page that reads a large file

/** A file of a kind that is not read here: colours, or interlaced. */
export class OtherKind extends Error {}

/**
 * Reads a gray or palette PNG of 1 to 16 bits.
 * @param {Uint8Array} bytes
 * @returns {Promise<{width: number, height: number, bits: number, values: Uint8Array | Uint16Array}>} a value, or an
 *   index of the palette, for each pixel
 */
export async function decodePng(bytes) {
  const { width, height, bits, kind, interlaced, data } = readChunks(bytes);
  if ((kind !== GRAY && kind !== PALETTE) || interlaced) throw new OtherKind("neither gray nor of a palette");
  const stride = Math.ceil((width * bits) / 8);
  const rows = await inflate(data, (stride + 1) * height);
  const step = bits === 16 ? 2 : 1;
  const values = bits === 16 ? new Uint16Array(width * height) : new Uint8Array(width * height);
  const nothing = new Uint8Array(stride);
  let above = nothing;
  let slice = performance.now();
  for (let y = 0; y < height; y++) {
    const start = y * (stride + 1);
    const row = rows.subarray(start + 1, start + 1 + stride);
    unfilter(rows[start], row, above, step);
    unpack(row, bits, values, y * width, width);
    above = row;
    if (y % 64 === 63 && performance.now() - slice > SLICE_MS) {
      await breathe();
      slice = performance.now();
    }
  }
  return { width, height, bits, values };
}

/** Returns the width and height that a PNG's header tells. */
export function pngSize(bytes) {
  const { width, height } = readChunks(bytes);
  return { width, height };
}

function readChunks(bytes) {
  if (!SIGNATURE.every((byte, i) => bytes[i] === byte)) throw new OtherKind("no PNG");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = {
    width: view.getUint32(16), height: view.getUint32(20), bits: bytes[24], kind: bytes[25], interlaced: bytes[28] !== 0,
  };
  const data = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (name === "IDAT") data.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  return { ...header, data };
}

async function inflate(parts, length) {
  const inflated = new Uint8Array(length);
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > length) throw new Error("The PNG holds more than its size");
    inflated.set(value, at);
    at += value.length;
  }
  if (at < length) throw new Error("The PNG is cut off");
  return inflated;
}

/** Undoes PNG's filter of a row, in place; `step` is how many bytes a pixel has. */
function unfilter(filter, row, above, step) {
  const length = row.length;
  if (filter === 1) {
    for (let i = step; i < length; i++) row[i] += row[i - step];
  } else if (filter === 2) {
    for (let i = 0; i < length; i++) row[i] += above[i];
  } else if (filter === 3) {
    for (let i = 0; i < step; i++) row[i] += above[i] >> 1;
    for (let i = step; i < length; i++) row[i] += (row[i - step] + above[i]) >> 1;
  } else if (filter === 4) {
    for (let i = 0; i < step; i++) row[i] += above[i];
    for (let i = step; i < length; i++) {
      const left = row[i - step];
      const up = above[i];
      const corner = above[i - step];
      const toLeft = Math.abs(up - corner);
      const toUp = Math.abs(left - corner);
      const toCorner = Math.abs(left + up - 2 * corner);
      row[i] += toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
    }
  }
}

function unpack(row, bits, values, at, width) {
  if (bits === 16) {
    for (let x = 0, i = 0; x < width; x++, i += 2) values[at + x] = (row[i] << 8) | row[i + 1];
  } else if (bits === 8) {
    values.set(row.subarray(0, width), at);
  } else {
    const highest = (1 << bits) - 1;
    for (let x = 0; x < width; x++) {
      const bit = x * bits;
      values[at + x] = (row[bit >> 3] >> (8 - bits - (bit & 7))) & highest;
    }
  }
}

/** Lets the page paint and answer before it goes on. */
export function breathe() {
  return globalThis.scheduler?.yield ? scheduler.yield() : new Promise((go) => setTimeout(go));
}
