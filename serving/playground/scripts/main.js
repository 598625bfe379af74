// The page: the server's models, and what people do.

import { removeLabel, chooseTruth, takeLabel } from "./comparing.js";
import { byId, make, show } from "./page/dom.js";
import { fetchSample, listen } from "./page/inputs.js";
import { className, fillViews, markViews } from "./page/panel.js";
import { sendMendedBy, setState, showProblem } from "./page/problems.js";
import { refresh, showFigures, showResults, showThreshold, stage } from "./page/showing.js";
import { abandon, check, learnModelBy, moveThreshold, needClasses, readPhoto, restart, showFile, takePhoto } from "./picture.js";
import { CallError, readVersions } from "./server/api.js";
import { Session } from "./server/session.js";
import { FOREGROUND, now, whyNot } from "./state.js";
import { chooseLanguage, copy, download } from "./taking.js";

async function begin() {
  now.config = JSON.parse(document.querySelector("meta[name=served]").content);
  const { models, version, label } = now.config;
  const asked = new URLSearchParams(location.search).get("model");
  byId("model").replaceChildren(...models.map((name) => make("option", { value: name }, name)));
  byId("model").disabled = models.length < 2;
  show(byId("model"), models.length > 0);
  show(byId("model-name"), models.length === 0);
  byId("version").disabled = Boolean(version || label);
  if (models.includes(asked)) byId("model").value = asked;
  else if (asked) byId("model-name").value = asked;
  if (models.length || asked) await chooseModel(byId("model").value || asked);
  else setState("wait", "Which model? Type its name.");
}

async function chooseModel(model) {
  await restart((signal) => learnModel(model, signal), () => chooseModel(model));
}

async function learnModel(model, signal) {
  const { version, label } = now.config;
  const session = forget({ model, version, label });
  const [states] = await Promise.all([readVersions(model, signal), session.begin(signal)]);
  const ready = states.filter(({ state }) => state === "AVAILABLE").map((one) => one.version);
  const options = version || label ? [["", label || version]] : [["", `newest (${ready[0]})`], ...ready.map((one) => [one, one])];
  byId("version").replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  await take(session, signal);
}

async function learnChosen(signal) {
  const model = byId("model").value || byId("model-name").value.trim();
  if (!model) throw new CallError("No model is chosen", { kind: "model", advice: "Choose one above." });
  const { asked, config } = now;
  const isOfPage = asked?.model === model && asked.version && asked.version !== config.version;
  await (isOfPage ? learnVersion(model, asked.version, signal) : learnModel(model, signal));
}

async function chooseVersion(model, version) {
  await restart((signal) => learnVersion(model, version, signal), () => chooseVersion(model, version));
}

async function learnVersion(model, version, signal) {
  const session = forget({ model, version });
  await session.begin(signal);
  await take(session, signal);
}

/** Lets go of the model that was chosen, and returns what will learn about another. */
function forget(target) {
  setState("wait", "asking …");
  now.asked = target;
  now.session = now.answer = null;
  return new Session(target);
}

async function take(session, signal) {
  now.session = session;
  now.target = FOREGROUND;
  now.threshold = session.ownThreshold ?? 0.5;
  setState("ready", now.config.server);
  fillChoices();
  await showFile(signal);
  if (now.photo) await readPhoto(signal);
}

function fillChoices() {
  const { session } = now;
  const { foregroundNames, classNames } = session;
  const amount = session.info?.model?.answers_classes ? (classNames?.length ?? 0) : (session.info?.model?.output_channels ?? classNames?.length ?? 0);
  const hasClasses = session.has("class_map_png") && amount > 1;
  const classes = hasClasses ? Array.from({ length: amount }, (_, index) => [String(index), className(classNames, index)]) : [];
  const foreground = foregroundNames.length ? `the foreground (${foregroundNames.join(", ")})` : "the foreground";
  byId("target").replaceChildren(...[[FOREGROUND, foreground], ...classes].map(([value, text]) => make("option", { value }, text)));
  show(byId("target-field"), hasClasses);
  byId("background").options[0].textContent = `as exported (${session.spec.background ?? "black"})`;
}

function listenToControls() {
  fillViews((view) => choose({ view }));
  byId("model").addEventListener("change", (event) => chooseModel(event.target.value));
  byId("model-name").addEventListener("change", (event) => event.target.value.trim() && chooseModel(event.target.value.trim()));
  byId("version").addEventListener("change", (event) => chooseVersion(byId("model").value || byId("model-name").value.trim(), event.target.value));
  byId("threshold").addEventListener("input", (event) => moveThreshold(Number(event.target.value), event.timeStamp));
  byId("threshold-number").addEventListener("input", (event) => event.target.value && moveThreshold(Number(event.target.value), event.timeStamp));
  byId("threshold-reset").addEventListener("click", (event) => moveThreshold(now.session.ownThreshold, event.timeStamp));
  byId("target").addEventListener("change", (event) => choose({ target: event.target.value }));
  for (const id of ["background", "background-colour"]) {
    byId(id).addEventListener("input", () => {
      const chosen = byId("background").value;
      show(byId("background-colour"), chosen === "own");
      now.background = chosen === "export" ? null : chosen === "own" ? byId("background-colour").value : chosen;
      refresh();
    });
  }
  byId("label-values").addEventListener("change", (event) => {
    now.labelChoice = event.target.value;
    chooseTruth();
    refresh();
  });
  byId("label-remove").addEventListener("click", () => {
    removeLabel();
    refresh();
    byId("label-choose").focus();
  });
  byId("label-sample").addEventListener("click", async () => takeLabel(await fetchSample(now.sampleLabel)));
  for (const id of ["another", "problem-another"]) byId(id).addEventListener("click", startAgain);
  byId("zoom-in").addEventListener("click", () => stage.zoom(1.5));
  byId("zoom-out").addEventListener("click", () => stage.zoom(1 / 1.5));
  byId("zoom-fit").addEventListener("click", () => stage.fit());
  byId("download").addEventListener("click", download);
  byId("copy").addEventListener("click", copy);
  const tabs = ["curl", "python"];
  for (const language of tabs) {
    byId(`tab-${language}`).addEventListener("click", () => chooseLanguage(language));
    byId(`tab-${language}`).addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") chooseLanguage(tabs.find((one) => one !== language), true);
    });
  }
  listen(takePhoto, takeLabel, () => Boolean(now.answer));
  new ResizeObserver(() => now.answer && showFigures()).observe(byId("spread").parentElement);
}

let choosing = {};

/** Takes up a choice of view or target; the class map is asked for when it is first needed. */
async function choose(choice) {
  for (const what of Object.keys(choice)) choosing[what] = choice;
  const next = { ...now, ...choice };
  try {
    if (next.view === "classes" || next.target !== FOREGROUND) {
      show(byId("busy"));
      await needClasses();
    }
  } catch (error) {
    markViews(now.view, whyNot);
    byId("target").value = now.target;
    if (error.name !== "AbortError") showProblem(error, () => choose(choice));
    return;
  } finally {
    show(byId("busy"), false);
  }
  // Of views, and of targets, the last that was chosen counts.
  if (Object.keys(choice).some((what) => choosing[what] !== choice)) return;
  Object.assign(now, choice);
  showThreshold();
  refresh();
  if ("target" in choice) check();
}

function startAgain() {
  abandon();
  removeLabel();
  now.file = now.photo = now.answer = null;
  showResults({ isShown: false });
  for (const id of ["pictures", "problem", "busy"]) show(byId(id), false);
  show(byId("start"));
  byId("choose").focus();
}

sendMendedBy(takePhoto);
learnModelBy(learnChosen);
const begun = begin();
listenToControls(); // while the server is asked
await begun;
document.body.dataset.ready = "yes";
performance.mark("playground-ready");
