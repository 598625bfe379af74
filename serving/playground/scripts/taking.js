// What is on the screen, to take along: as a file, and as a call.

import { byId, save } from "./page/dom.js";
import { showProblem } from "./page/problems.js";
import { say, showCode, stem } from "./page/showing.js";
import { compose } from "./pixels/compose.js";
import { how, layer, now, paintedView, served } from "./state.js";

export async function download() {
  const { session, photo, answer, classes, view } = now;
  const wanted = served(), name = `${stem()}_${view}.png`; // of the picture that is there now
  const button = byId("download");
  button.disabled = true;
  try {
    const kept = { probability: answer.file, classes: classes?.file, mask: now.mask?.file }[view];
    let file;
    const { width, height } = answer;
    const shown = layer();
    if (!wanted.isWhole) file = await compose(photo, { view: paintedView(), width, height, ...shown, how: how(shown.isSoft) });
    else file = new Blob([kept ?? (await session.ask(photo, wanted)).bytes], { type: "image/png" });
    save(file, name);
  } catch (error) {
    showProblem(error, download);
  } finally {
    button.disabled = false;
  }
}

export function chooseLanguage(language, focuses = false) {
  now.language = language;
  for (const one of ["curl", "python"]) {
    const tab = byId(`tab-${one}`);
    tab.setAttribute("aria-selected", one === language);
    tab.tabIndex = one === language ? 0 : -1;
  }
  byId("code").setAttribute("aria-labelledby", `tab-${language}`);
  if (focuses) byId(`tab-${language}`).focus();
  showCode();
}

export async function copy() {
  const code = byId("code-text").textContent;
  try {
    await navigator.clipboard.writeText(code);
  } catch { // where the page may not: marked, so that Ctrl-C does
    getSelection().selectAllChildren(byId("code-text"));
    return say("The call is selected: copy it with Ctrl C.");
  }
  byId("copy").textContent = "Copied";
  say("Copied.");
  setTimeout(() => (byId("copy").textContent = "Copy"), 1500);
}
