// Photographs: read once, sent as they are, and shown at a size that browsers are at ease with.

const SHOWN_PIXELS = 4e6; // a copy of more is shown at a smaller scale; results are exact at any size
const LARGEST_FILE = 180e6; // in base64 that is what the server takes at most
const AS_IN_FILE = { imageOrientation: "from-image", colorSpaceConversion: "none" };

/**
 * Reads a file.
 * @param {File} file
 * @returns {Promise<{name, file, base64, width, height, shown}>} its upright size, and a copy to show; without these
 *   where the browser cannot decode it: the server judges for itself
 */
export async function openPhoto(file) {
  if (file.size > LARGEST_FILE) throw new RangeError(`${file.name} is too large`);
  const [base64, picture] = await Promise.all([readBase64(file), decode(file)]);
  return { name: file.name || "pasted.png", file, base64, ...picture };
}

/** Returns a file as a picture at its full size; null where the browser cannot decode it. */
export async function decodeWhole(file) {
  try {
    return await createImageBitmap(file, AS_IN_FILE);
  } catch {
    return null;
  }
}

async function decode(file) {
  const whole = await decodeWhole(file);
  if (!whole) return { width: 0, height: 0, shown: null };
  const { width, height } = whole;
  const scale = Math.sqrt(SHOWN_PIXELS / (width * height));
  if (scale >= 1) return { width, height, shown: whole };
  const shown = await createImageBitmap(whole, {
    resizeWidth: Math.max(1, Math.round(width * scale)), resizeHeight: Math.max(1, Math.round(height * scale)), resizeQuality: "high",
  });
  whole.close();
  return { width, height, shown };
}

function readBase64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

/** Returns the same picture in a form that every server reads: PNG, or JPEG of at most so many pixels. */
export async function convert(photo, mostPixels = 0) {
  const whole = await decodeWhole(photo.file);
  const scale = mostPixels ? Math.min(1, Math.sqrt(mostPixels / (whole.width * whole.height))) : 1;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(whole.width * scale));
  canvas.height = Math.max(1, Math.floor(whole.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, 0, 0, canvas.width, canvas.height);
  const type = mostPixels ? "image/jpeg" : "image/png";
  const blob = await new Promise((done) => canvas.toBlob(done, type, 0.95));
  // Above what the browser's canvas takes.
  const pixels = canvas.width * canvas.height;
  if (!blob && pixels > 1) return convert(photo, pixels / 4);
  const name = photo.name.replace(/\.[^.]*$/, "") + (mostPixels ? "_smaller.jpg" : ".png");
  return new File([blob], name, { type });
}
