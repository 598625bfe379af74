// The calls for exactly what is on the screen: as one types them, with the names that are in use.

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
 * @param shown as for `curl`, and `{address, target, view, classIndex, colour, label, labelChoice}`
 */
export function python(shown) {
  const { address, target: { model, version, label }, file, view, threshold, classIndex, colour, out, needsToken } = shown;
  const named = [text(address), `model=${text(model)}`];
  if (version) named.push(`version=${version}`);
  if (label) named.push(`label=${text(label)}`);
  if (needsToken) named.push('token=os.environ["TOKEN"]');
  const product = { masked: colour ? "mask" : "masked_image", probability: "probability", classes: "class_map" }[view] ?? "mask";
  const wanted = classIndex === null ? product : "class_map";
  const asked = [text(file)];
  if (threshold !== undefined && wanted !== "probability" && wanted !== "class_map") asked.push(`threshold=${threshold}`);
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

function resultLines({ view, classIndex, colour, label, labelChoice, imports, wanted, to }) {
  const saved = `    result.save(${to})`;
  if (view === "classes") return [saved, "print(result.class_areas())"];
  if (view === "probability") return [saved];
  if (view === "compare") {
    imports.add("import numpy as np").add("from PIL import Image");
    const foreground = { all: "> 0", half: ">= 128" }[labelChoice] ?? `== ${labelChoice}`;
    return [
      ...(classIndex === null ? ["mask = result.mask"] : [`mask = result.class_map == ${classIndex}`]),
      `values = np.array(Image.open(${text(label.name)})${label.isColoured ? '.convert("L")' : ""})`,
      `label = values ${foreground}`,
      ...(label.hasVoid && labelChoice !== "255" ? ["mask, label = mask[values != 255], label[values != 255]"] : []),
      "print((mask & label).sum() / (mask | label).sum())",
    ];
  }
  if (classIndex !== null) {
    imports.add("from PIL import Image");
    const mask = `Image.fromarray(result.class_map == ${classIndex})`;
    if (view === "mask") return [`${mask}.save(${to})`];
    const ground = { cutout: 'Image.new("RGBA", image.size)', overlay: "image" }[view] ?? `Image.new("RGBA", image.size, ${text(colour ?? "black")})`;
    const front = view === "overlay" ? 'Image.blend(image, Image.new("RGBA", image.size, (255, 40, 40)), 0.5)' : "image";
    return ['image = result.image().convert("RGBA")', `Image.composite(${front}, ${ground}, ${mask}).save(${to})`];
  }
  if (view === "cutout") return [`    result.cutout().save(${to})`];
  if (view === "overlay") return [`    result.overlay().save(${to})`];
  if (view === "masked" && wanted === "mask") {
    imports.add("from PIL import Image");
    return [
      "cutout = result.cutout()",
      `ground = Image.new("RGBA", cutout.size, ${text(colour)})`,
      `Image.alpha_composite(ground, cutout).save(${to})`,
    ];
  }
  return [saved];
}
