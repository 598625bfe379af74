// Labelled masks beside the answer.

import { byId, make, show } from "./page/dom.js";
import { choices, readLabel, truthOf } from "./pixels/label.js";
import { refresh, say } from "./page/showing.js";
import { now } from "./state.js";
import { Tally } from "./pixels/tally.js";

export async function takeLabel(file) {
  const problem = byId("label-problem");
  const { photo } = now;
  const isLate = () => now.photo !== photo || !now.answer; // another picture or model has come meanwhile
  show(problem, false);
  try {
    const label = await readLabel(file).catch(() => {
      throw new Error(`${file.name} cannot be read as a picture.`);
    });
    if (isLate()) return;
    const { width, height } = now.answer;
    if (label.width !== width || label.height !== height) {
      throw new Error(`${file.name} is ${label.width} × ${label.height}, the picture ${width} × ${height}: they must be the same.`);
    }
    now.label = label;
    now.labelChoice = "";
    show(byId("label-drop"), false);
    show(byId("label-result"));
    now.view = "compare";
    chooseTruth();
    refresh();
    say(`Intersection over union: ${byId("iou").textContent}`);
  } catch (error) {
    if (isLate()) return;
    problem.textContent = error.message;
    show(problem);
  }
}

export function chooseTruth() {
  const { label, answer, classes } = now;
  if (label.width !== answer.width || label.height !== answer.height) return removeLabel();
  const options = choices(label, now.session.classNames);
  byId("label-values").replaceChildren(...options.map(({ value, text }) => make("option", { value }, text)));
  show(byId("label-values-field"), options.length > 1);
  now.labelChoice = byId("label-values").value = now.labelChoice || options[0].value;
  now.truth = truthOf(label, now.labelChoice);
  if (answer.values) now.tally = new Tally(answer.values, now.truth);
  if (classes) classes.tally = new Tally(classes.values, now.truth);
  const best = answer.isProbability ? now.tally.best() : null;
  byId("best").textContent = best ? `Best here: IoU ${best.iou.toFixed(4)} at ${best.threshold}` : "";
}

export function removeLabel() {
  now.label = now.truth = null;
  show(byId("label-drop"));
  show(byId("label-result"), false);
  show(byId("label-problem"), false);
  show(byId("label-sample"), Boolean(now.sampleLabel));
  if (now.view === "compare") now.view = "mask";
}
