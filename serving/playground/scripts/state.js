// What is chosen and what has been answered, and what follows from these: a table of facts, without any element of the page.

import { lastBackground } from "./pixels/tally.js";
import { insideAbove, insideClass, readColour } from "./page/views.js";

export const FOREGROUND = "";

/** What is chosen, and what has been answered. */
export const now = {
  config: null, session: null, asked: null, // the server, the model on it, and which was asked about last
  file: null, // that was chosen, until it is open
  photo: null, answer: null, tally: null, classes: null, mask: null, costs: new Map(), // of the picture
  label: null, truth: null, labelChoice: "", sampleLabel: "",
  view: "mask", target: FOREGROUND, threshold: 0.5, background: null, language: "curl", // a background of null is the model's own
};

const levelsOf = (values) => (values.BYTES_PER_ELEMENT === 1 ? 256 : 65536);

/** Returns what the mask on the screen is made of: values, and which of them are inside. */
export function source() {
  const { answer, classes, target, threshold, session } = now;
  if (target !== FOREGROUND && classes) {
    return { values: classes.values, inside: insideClass(levelsOf(classes.values), Number(target)), area: classes.tally.counts[Number(target)], isSoft: false };
  }
  if (!answer.values) return null;
  const last = answer.isProbability ? lastBackground(threshold) : 0;
  const levels = answer.isProbability ? 65536 : 256;
  const isSoft = session.spec.edge === "soft" && answer.isProbability;
  return { values: answer.values, inside: insideAbove(levels, last), area: now.tally.area(last), last, isSoft };
}

/** Returns what the stage shows: values with their tables, or a picture. */
export function layer() {
  const { view, answer, classes, truth } = now;
  if (view === "probability") return { values: answer.raw, inside: new Uint8Array(65536) };
  if (view === "classes") return { values: classes.values, inside: new Uint8Array(levelsOf(classes.values)) };
  const made = source();
  if (!made) return { bitmap: answer.bitmap };
  return view === "compare" ? { ...made, truth } : made;
}

export function whyNot(view) {
  const { session, answer, truth, target } = now;
  if (view === "probability" && !session.hasProbability) {
    return session.info?.model?.answers_classes ? "This model answers classes, not probabilities." : "This export has no probability_png.";
  }
  if (view === "classes" && !session.has("class_map_png")) return "This model has one class, so there is no class map.";
  if (answer && !answer.values && !answer.bitmap && target === FOREGROUND && view !== "classes") return "This export gives class maps only.";
  if (answer?.bitmap && !["masked", "classes"].includes(view)) return "This export gives masked images only.";
  if (answer && !answer.fits && ["masked", "cutout", "overlay"].includes(view)) return "The browser does not turn this picture as the server does.";
  if (view === "compare" && !truth) return "Choose a labelled mask first.";
  return "";
}

export function how(isSoft) {
  const own = now.session.spec.background ?? "black";
  return { background: readColour(now.background ?? (own.startsWith("#") ? own : "#000000")), isSoft };
}

/** Masked images with a transparent background are cut-outs. */
export function paintedView() {
  const isTransparent = now.session.spec.background === "transparent" && !now.background;
  return now.view === "masked" && isTransparent ? "cutout" : now.view;
}

/** Returns which signature gives what is shown, and whether that is all of it. */
export function served() {
  const { session, view, threshold, target } = now;
  if (view === "probability") return { signature: "probability_png", isWhole: true };
  if (view === "classes" || target !== FOREGROUND) return { signature: "class_map_png", isWhole: view === "classes" };
  const isMasked = (view === "masked" && !now.background) || (view === "cutout" && session.spec.background === "transparent");
  const masked = isMasked ? session.signatureFor("masked_image", threshold) : null;
  if (masked) return { ...masked, isWhole: true };
  const mask = session.signatureFor("mask", threshold);
  return { ...(mask ?? { signature: "probability_png" }), isWhole: view === "mask" && Boolean(mask) };
}
