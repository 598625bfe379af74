// Files to take along: the server's own where it gives them, else put together here at the picture's full size.

import { decodeWhole } from "./photo.js";
import { tables } from "../page/views.js";

/**
 * Puts a view together at the picture's full size.
 * @param photo as `openPhoto` gives it
 * @param shown `{view, width, height, values, truth, inside, how}`, as the stage shows it
 * @returns {Promise<Blob>} a PNG
 */
export async function compose(photo, { view, width, height, values, truth, inside, how }) {
  const context = new OffscreenCanvas(width, height).getContext("2d");
  const isCutout = view === "cutout";
  if (view !== "mask" && view !== "probability") {
    const whole = await decodeWhole(photo.file);
    if (whole) context.drawImage(whole, 0, 0, width, height);
    whole?.close?.();
  }
  const layer = new OffscreenCanvas(width, height);
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const [table] = tables(isCutout ? "alpha" : view, inside, how);
  const levels = inside.length;
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[truth ? values[i] + levels * truth[i] : values[i]];
  layer.getContext("2d").putImageData(image, 0, 0);
  if (isCutout) context.globalCompositeOperation = "destination-in";
  context.drawImage(layer, 0, 0);
  return context.canvas.convertToBlob({ type: "image/png" });
}
