// One picture's way: read, sent, answered, and checked against the server's own mask.

import { removeLabel, chooseTruth } from "./comparing.js";
import { byId, milliseconds, pixels, show } from "./page/dom.js";
import { showCheck, showCosts } from "./page/panel.js";
import { setState, showProblem } from "./page/problems.js";
import { refresh, say, showFigures, showResults, showThreshold, stage } from "./page/showing.js";
import { VIEWS } from "./page/views.js";
import { openPhoto } from "./pixels/photo.js";
import { compareMasks, lastBackground, Tally } from "./pixels/tally.js";
import { CallError } from "./server/api.js";
import { FOREGROUND, now, whyNot } from "./state.js";

const REST_MS = 250; // that the threshold stays where it is until the server is asked about it

let working = new AbortController(); // ends what belongs to the picture or model before
let checking = new AbortController();
let resting = 0;
let learn = async () => {};

/** Names what asks about the chosen model, and then takes the picture. */
export function learnModelBy(work) {
  learn = work;
}

/** Ends whatever is under way. */
export function abandon() {
  working.abort();
  checking.abort();
  clearTimeout(resting);
}

/** Does what belongs to another picture or model, after ending what belonged to the last; shows what went wrong. */
export async function restart(work, retry) {
  abandon();
  const own = (working = new AbortController());
  show(byId("problem"), false);
  show(byId("busy"));
  try {
    await work(own.signal);
  } catch (error) {
    if (own.signal.aborted) return;
    if (!now.answer) showResults({ isShown: false });
    showProblem(error, retry);
  } finally {
    if (working === own) show(byId("busy"), false);
  }
}

/** Shows a picture, and asks the server about it. */
export async function takePhoto(file, sampleLabel = "") {
  now.sampleLabel = sampleLabel;
  removeLabel();
  await restart(async (signal) => {
    now.answer = now.photo = null;
    now.file = file;
    showResults({ isShown: !byId("panel").hidden, isUsable: false });
    show(byId("start"), false);
    await showFile(signal);
    if (now.session) await readPhoto(signal);
    else await learn(signal); // the model was still being asked about, which this has ended
  }, () => takePhoto(file, sampleLabel));
}

/** Shows the file that was chosen last, unless it is there already. */
export async function showFile(signal) {
  const { file } = now;
  if (!file) return;
  if (!file.size) throw new CallError("That file is empty", { kind: "empty", advice: "There is nothing in it. Take another one." });
  const photo = await openPhoto(file).catch((error) => {
    const advice = error instanceof RangeError ? "Pictures of up to 180 MB can be sent." : "The browser could not read it.";
    throw new CallError("That file cannot be sent", { kind: "file", advice });
  });
  signal.throwIfAborted();
  Object.assign(now, { photo, file: null });
  show(byId("pictures"));
  byId("stage").style.setProperty("--ratio", photo.width ? `${photo.width} / ${photo.height}` : "4 / 3");
  stage.setPhoto(photo.shown, photo.width || 1, photo.height || 1);
}

/** Asks the chosen model about the picture, and shows what it answers. */
export async function readPhoto(signal) {
  const { session, photo } = now;
  Object.assign(now, { answer: null, tally: null, classes: null, mask: null });
  showResults({ isShown: !byId("panel").hidden, isUsable: false });
  now.costs.clear();
  const answer = await session.read(photo, now.threshold, signal);
  signal.throwIfAborted();
  addCost(answer.cost, answer.decodeMs);
  if (!photo.width) Object.assign(photo, { width: answer.width, height: answer.height });
  answer.fits = photo.width === answer.width && photo.height === answer.height;
  stage.setPhoto(answer.fits ? photo.shown : null, answer.width, answer.height);
  now.answer = answer;
  if (answer.values) now.tally = new Tally(answer.values);
  if (answer.values && !answer.isProbability) now.mask = answer;
  const givesClassesOnly = !answer.values && !answer.bitmap;
  if (givesClassesOnly) now.target = byId("target").value = byId("target").options[1]?.value ?? FOREGROUND;
  if (whyNot(now.view)) now.view = VIEWS.find(({ name }) => !whyNot(name))?.name ?? "mask";
  if (now.view === "classes" || now.target !== FOREGROUND || givesClassesOnly) await needClasses(signal);
  signal.throwIfAborted();
  showResults({});
  setState("ready", now.config.server);
  const unfit = `The browser shows this picture as ${photo.width} × ${photo.height}, the server reads it as ${answer.width} × ${answer.height}.`;
  byId("unfit").textContent = answer.fits ? "" : unfit;
  say(answer.fits ? `Done: ${answer.width} × ${answer.height} pixels.` : unfit);
  if (document.activeElement === document.body) byId("pictures").focus({ preventScroll: true });
  showThreshold();
  if (now.label) chooseTruth();
  refresh();
  check();
}

/** Asks for the class map, once. */
export async function needClasses(signal = working.signal) {
  if (now.classes) return;
  const classes = await now.session.readClasses(now.photo, signal);
  signal.throwIfAborted(); // it was read while another picture came
  addCost(classes.cost, classes.decodeMs);
  now.classes = { ...classes, tally: new Tally(classes.values, now.truth) };
}

function addCost({ signature, milliseconds, sent, received }, decodeMs) {
  now.costs.set(signature, { name: signature, milliseconds, sent, received });
  if (decodeMs !== undefined) now.costs.set(`${signature} decoded`, { name: "read in the page", milliseconds: decodeMs });
  showCosts([...now.costs.values()]);
}

/** Moves the threshold: shown at once, and checked against the server once it rests. `started` is the event's time. */
export function moveThreshold(value, started) {
  if (!Number.isFinite(value)) return;
  now.threshold = Math.min(1, Math.max(0, value));
  now.mask = null;
  showThreshold();
  refresh();
  stage.painted().then((ended) => {
    const { duration } = performance.measure("threshold-painted", { start: started, end: ended });
    byId("painting").textContent = `The last move of the threshold was on the screen after ${milliseconds(duration)}.`;
  });
  checking.abort();
  clearTimeout(resting);
  showCheck("Computed in the page …", "wait");
  resting = setTimeout(check, REST_MS);
}

/** Asks the server for its own mask, and compares. */
export async function check() {
  const { session, photo, answer, threshold } = now;
  if (!answer) return;
  checking.abort();
  clearTimeout(resting);
  if (now.target !== FOREGROUND) return showCheck("From the server's own class map", "good");
  if (!answer.values) return showCheck("");
  if (!answer.isProbability && now.mask) return showCheck("The server's own mask", "good");
  const own = (checking = new AbortController());
  showCheck("Asking the server for its own mask …", "wait");
  try {
    const mask = await session.readMask(photo, threshold, own.signal);
    if (own.signal.aborted) return;
    if (!mask) return showCheck("Computed in the page: this export has no mask_png_at_threshold to check it by");
    now.mask = mask;
    addCost(mask.cost);
    setState("ready", now.config.server);
    if (!answer.isProbability) {
      answer.values = mask.values;
      now.tally = new Tally(mask.values);
      showCheck("The server's own mask", "good");
      return refresh();
    }
    const last = lastBackground(threshold);
    const { differing, far, area } = compareMasks(answer.values, last, mask.values);
    mask.area = area;
    showFigures();
    const text = differing === 0 ? `Same as the server's own mask: ${pixels(area)}`
      : far ? `${pixels(differing)} differ from the server's own mask`
      : `Same as the server's own mask, but for ${pixels(differing)} at the threshold itself (within 1/65535)`;
    showCheck(text, far ? "off" : "good");
    say(text);
  } catch (error) {
    if (own.signal.aborted) return;
    showCheck(`Not checked: ${error.message}.`, "off", check);
    if (error.kind === "gone") setState("gone", "does not answer");
  }
}
