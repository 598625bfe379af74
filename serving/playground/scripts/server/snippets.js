// The calls for exactly what is on the screen: as one types them, with the names that are in use.

import { halfOf } from "../pixels/label.js";

/** Returns a word as a shell takes it. */
function quoted(word) {
  return /^[\w.,/:=@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

const text = (word) => JSON.stringify(word);

/**
 * Returns the call for curl.
 * @param shown `{url, file, signature, threshold, out, needsToken, note}`: the model's URL, the picture's name, the
 *   signature that is called, the threshold for those that take one, and the file to write
 */
export function curl({ url, file, signature, threshold, out, needsToken, note }) {
  const output = `${signature.replace(/(_png)?(_at_threshold)?$/, "")}_bytes`;
  const ending = threshold === undefined ? '"}]}}' : `"}], "threshold": [${threshold}]}}`;
  return [
    ...(note ? [`# ${note}`] : []),
    `(printf '{"signature_name": "${signature}", "inputs": {"image_bytes": [{"b64": "'`,
    ` base64 < ${quoted(file)} | tr -d '\\n'`,
    ` printf '${ending}') |`,
    `curl -s${needsToken ? ' -H "Authorization: Bearer $TOKEN"' : ""} --data-binary @- ${quoted(`${url}:predict`)} |`,
    `python3 -c 'import base64, json, sys; sys.stdout.buffer.write(base64.b64decode(json.load(sys.stdin)["outputs"]["${output}"][0]["b64"]))' > ${quoted(out)}`,
  ].join("\n");
}

/**
 * Returns the same in Python.
 * @param shown as for `curl`, and `{address, target, view, classIndex, colour, isSoft, level, isOwn, label, labelChoice}`:
 *   `level` is the threshold, `isOwn` if it is the model's
 */
export function python(shown) {
  const { address, target: { model, version, label }, file, signature, classIndex, isSoft, level, isOwn, out, needsToken } = shown;
  const named = [text(address), `model=${text(model)}`];
  if (version) named.push(`version=${version}`);
  if (label) named.push(`label=${text(label)}`);
  if (needsToken) named.push('token=os.environ["TOKEN"]');
  const wanted = classIndex !== null ? "class_map" : isSoft ? "probability" : signature.replace(/(_png)?(_at_threshold)?$/, "");
  const asked = [text(file)];
  if (!isOwn && wanted.startsWith("mask")) asked.push(`threshold=${level}`);
  if (wanted !== "mask") asked.push(`outputs=(${text(wanted)},)`);
  const imports = new Set(["from maskport.serving.client import MaskClient"]);
  if (needsToken) imports.add("import os");
  const lines = resultLines({ ...shown, wanted, imports, to: text(out) });
  const byName = [...imports].sort((one, other) => group(one) - group(other) || one.localeCompare(other));
  return [
    ...byName,
    "",
    `with MaskClient(${named.join(", ")}) as client:`,
    `    result = client.segment(${asked.join(", ")})`,
    ...lines,
  ].join("\n");
}

const group = (line) => (line === "import os" ? 0 : 1);

function resultLines({ view, classIndex, colour, isSoft, level, label, labelChoice, imports, wanted, to }) {
  const saved = `    result.save(${to})`;
  if (view === "classes") return [saved, "print(result.class_areas())"];
  if (view === "probability" || wanted === "masked_image") return [saved];
  const mask = classIndex !== null ? `result.class_map == ${classIndex}` : wanted === "probability" ? `result.probability > ${level}` : "result.mask";
  if (view === "compare") {
    imports.add("import numpy as np").add("from PIL import Image");
    const foreground = { all: "> 0", half: `>= ${halfOf(label)}` }[labelChoice] ?? `== ${labelChoice}`;
    return [
      `mask = ${mask}`,
      `values = np.array(Image.open(${text(label.name)})${label.isColoured ? '.convert("L")' : ""})`,
      `label = values ${foreground}`,
      ...(label.hasVoid && labelChoice !== "255" ? ["mask, label = mask[values != 255], label[values != 255]"] : []),
      "print((mask & label).sum() / (mask | label).sum())",
    ];
  }
  if (wanted === "mask" && view === "mask") return [saved];
  if (wanted === "mask" && view !== "masked") return [`    result.${view}().save(${to})`];
  imports.add("from PIL import Image");
  if (view === "mask") return [`Image.fromarray(${mask}).save(${to})`];
  const alpha = isSoft && view !== "overlay" ? '(255 * result.probability).round().astype("uint8")' : mask;
  const ground = { cutout: 'Image.new("RGBA", image.size)', overlay: "image" }[view] ?? `Image.new("RGBA", image.size, ${text(colour ?? "black")})`;
  const front = view === "overlay" ? 'Image.blend(image, Image.new("RGBA", image.size, (255, 40, 40)), 0.5)' : "image";
  return ['image = result.image().convert("RGBA")', `Image.composite(${front}, ${ground}, Image.fromarray(${alpha})).save(${to})`];
}
