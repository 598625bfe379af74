// Ways in: files that are dropped, chosen or pasted, and the samples.

import { byId, make } from "./dom.js";

const SAMPLES_URL = "/playground/samples/";
const SAMPLES = [
  { file: "coins.jpg", title: "Coins", label: "coins_mask.png" },
  { file: "astronaut.webp", title: "Astronaut" },
  { file: "cat.webp", title: "Cat" },
];

/**
 * Listens for pictures.
 * @param {(file: File, labelName?: string) => void} onPhoto with the sample's labelled mask, where it has one
 * @param {(file: File) => void} onLabel
 * @param {() => boolean} takesLabel whether there is a picture to compare
 */
export function listen(onPhoto, onLabel, takesLabel) {
  const pick = (id, take) => {
    const input = byId(id);
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = ""; // so that the same file may be chosen again
      if (file) take(file);
    });
    return () => input.click();
  };
  byId("choose").addEventListener("click", pick("file", onPhoto));
  byId("label-choose").addEventListener("click", pick("label-file", onLabel));
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) onPhoto(file);
  });
  dropping(onPhoto, onLabel, takesLabel);
  byId("samples").replaceChildren(...SAMPLES.map((sample) => make("li", {}, sampleButton(sample, onPhoto))));
}

/** Returns a sample of the page as a file. */
export async function fetchSample(name) {
  const answer = await fetch(`${SAMPLES_URL}${name}`);
  return new File([await answer.blob()], name, { type: answer.headers.get("content-type") });
}

function sampleButton({ file, title, label }, onPhoto) {
  const picture = make("img", { src: `${SAMPLES_URL}${file}`, alt: "", width: 96, height: 72, loading: "eager", decoding: "async" });
  return make("button", { type: "button", className: "sample", onclick: async () => onPhoto(await fetchSample(file), label) }, picture, title);
}

function dropping(onPhoto, onLabel, takesLabel) {
  const isLabel = (event) => takesLabel() && byId("label-drop").closest("section").contains(event.target);
  const mark = (event) => {
    const over = event.dataTransfer?.types.includes("Files") ?? false;
    document.body.classList.toggle("dragging", over && !isLabel(event));
    document.body.classList.toggle("dragging-label", over && isLabel(event));
  };
  const unmark = () => document.body.classList.remove("dragging", "dragging-label");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(event);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? unmark());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    unmark();
    const [file] = event.dataTransfer.files;
    if (file) (isLabel(event) ? onLabel : onPhoto)(file);
  });
}
