// From the state to the page: whatever has changed, these show it.

import { modelPath } from "../server/api.js";
import { byId, show } from "./dom.js";
import { className, drawSpread, markViews, showArea, showLegend, showScores } from "./panel.js";
import { curl, python } from "../server/snippets.js";
import { Stage } from "./stage.js";
import { FOREGROUND, how, layer, now, paintedView, served, source, whyNot } from "../state.js";
import { agreementOf } from "../pixels/tally.js";
import { tables, VIEWS } from "./views.js";

export const stage = new Stage({
  pictures: byId("pictures"), original: byId("original"), result: byId("result"), divider: byId("divider"), level: byId("zoom-level"),
});

const viewOf = () => VIEWS.find(({ name }) => name === now.view);

/** Shows or hides what there is to do with a result; it cannot be used while another one is waited for. */
export function showResults({ isShown = true, isUsable = true }) {
  for (const id of ["toolbar", "zoom", "findings", "panel", "legend"]) {
    show(byId(id), isShown);
    byId(id).inert = !isUsable;
  }
  document.body.classList.toggle("has-result", isShown);
}

/** Shows what is chosen, from what has been answered. */
export function refresh() {
  if (!now.answer) return;
  const shown = layer();
  stage.setLayer(shown.bitmap ? shown : { ...shown, tables: tables(paintedView(), shown.inside, how(shown.isSoft)) });
  markViews(now.view, whyNot);
  const { title, noun } = viewOf();
  byId("result-tag").textContent = title;
  byId("result").setAttribute("aria-label", `Result: ${title}`);
  byId("download").textContent = `Download ${noun}`;
  show(byId("background-field"), now.view === "masked");
  show(byId("choices"), !byId("background-field").hidden || !byId("target-field").hidden);
  showFigures();
}

/** Shows the figures that follow from the threshold. */
export function showFigures() {
  const { answer, truth, tally, threshold, session } = now;
  const made = source();
  const isForeground = now.target === FOREGROUND;
  const what = isForeground ? session.foregroundNames.join(", ") || "foreground" : className(session.classNames, Number(now.target));
  const known = isForeground ? now.mask?.area : undefined; // the server's own count, once it is there
  if (made) showArea(known ?? made.area, answer.width * answer.height, what);
  const agreement = truth && made ? (isForeground && answer.isProbability ? tally.agreement(made.last) : agreementOf(made.values, made.inside, truth)) : null;
  if (agreement) showScores(agreement);
  showLegend(now.view, { classes: now.classes?.tally, classNames: session.classNames, agreement });
  drawSpread(isForeground && answer.isProbability ? tally : null, threshold, Boolean(truth));
  showCode();
}

export function showThreshold() {
  const { session, threshold, target } = now;
  const why = session.whyNoThreshold || (target !== FOREGROUND ? "The mask of one class is where it is the most probable: no threshold." : "");
  for (const id of ["threshold", "threshold-number", "threshold-reset"]) byId(id).disabled = Boolean(why);
  byId("threshold").value = threshold;
  if (Number(byId("threshold-number").value) !== threshold) byId("threshold-number").value = threshold;
  const own = session.ownThreshold;
  byId("threshold-note").textContent = why || (own === null ? "Foreground is above." : `Foreground is above. The model's: ${own}`);
  show(byId("threshold-reset"), !why && own !== null && own !== threshold);
}

export function showCode() {
  const { config, session, photo, view, target, threshold, language } = now;
  const { signature, threshold: sent, isWhole } = served();
  const address = config.address ?? location.origin;
  const web = address.startsWith("http") ? address : location.origin;
  const shown = {
    view, file: photo.name, signature, threshold: sent, needsToken: config.needs_token,
    url: web + modelPath(session.target), address, target: session.target, out: `${stem()}_${view}.png`,
    note: isWhole ? "" : `The ${viewOf().noun} is made of this answer; in Python the client does it.`,
    classIndex: target === FOREGROUND || view === "classes" || view === "probability" ? null : Number(target),
    colour: view === "masked" ? now.background : null, label: now.label, labelChoice: now.labelChoice,
  };
  const isSoft = !isWhole && now.answer !== null && source()?.isSoft;
  byId("code-text").textContent = language === "curl" ? curl(shown) : python({ ...shown, view: paintedView(), isSoft, level: threshold, isOwn: threshold === session.ownThreshold });
  byId("download-note").textContent = isWhole ? `The server's own file, of ${signature}` : "Put together in this page, at the picture's full size";
}

export const stem = () => now.photo.name.replace(/\.[^.]*$/, "");

/** Tells those who do not see the page. */
export function say(text) {
  byId("live").textContent = text;
}
