// The public REST API, as TensorFlow Serving has it: states, and predictions of one picture.

/** What went wrong with a call, in plain words; `said` is what the server said. */
export class CallError extends Error {
  constructor(title, { kind = "", advice = "", said = "", limit = 0 } = {}) {
    super(title);
    Object.assign(this, { kind, advice, said, limit });
  }
}

/** Returns the URL path of a model: `target` has a name, and a version or a label where one was chosen. */
export function modelPath(target) {
  const path = `/v1/models/${encodeURIComponent(target.model)}`;
  if (target.version) return `${path}/versions/${target.version}`;
  return target.label ? `${path}/labels/${encodeURIComponent(target.label)}` : path;
}

/** Returns the states of a model's versions, newest first: `{version, state, error}`. */
export async function readVersions(model, signal) {
  const answer = await send(modelPath({ model }), { signal });
  return JSON.parse(answer.text).model_version_status
    .map((one) => ({ version: one.version, state: one.state, error: one.status?.error_message ?? "" }))
    .sort((one, other) => Number(other.version) - Number(one.version));
}

/** Returns the names of a model's signatures. */
export async function readSignatures(target, signal) {
  const answer = await send(`${modelPath(target)}/metadata`, { signal });
  return Object.keys(JSON.parse(answer.text).metadata.signature_def.signature_def);
}

/** Returns what the exporter wrote about a model. */
export async function readInfo(target, signal) {
  const body = JSON.stringify({ signature_name: "export_info", inputs: { query: ["info"] } });
  const answer = await send(`${modelPath(target)}:predict`, { body, signal });
  return JSON.parse(JSON.parse(answer.text).outputs[0]);
}

/**
 * Asks a signature about one picture.
 * @param {string} base64 the file
 * @param {number} [threshold] for signatures that take one
 * @returns the file that it answers, with what the call took: `{bytes, signature, milliseconds, sent, received}`
 */
export async function predict(target, signature, base64, threshold, signal) {
  const inputs = ['{"image_bytes":[{"b64":"', base64, '"}]'];
  if (threshold !== undefined) inputs.push(`,"threshold":[${threshold}]`);
  const body = new Blob([`{"signature_name":"${signature}","inputs":`, ...inputs, "}}"], { type: "application/json" });
  const answer = await send(`${modelPath(target)}:predict`, { body, signal });
  const { error, ...products } = JSON.parse(answer.text).outputs;
  if (error[0]) throw pictureError(error[0]);
  const bytes = fromBase64(Object.values(products)[0][0].b64);
  return { bytes, signature, milliseconds: answer.milliseconds, sent: body.size, received: answer.received };
}

async function send(path, { body, signal }) {
  const started = performance.now();
  let response, bytes;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", body, signal, headers: { accept: "application/json" } });
    bytes = await response.arrayBuffer();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw gone("");
  }
  const milliseconds = performance.now() - started;
  const text = new TextDecoder().decode(bytes);
  if (!response.ok) throw answerError(response.status, text);
  return { text, milliseconds, received: bytes.byteLength };
}

function gone(said) {
  return new CallError("The server does not answer", {
    kind: "gone", said,
    advice: "It may have been stopped, or be starting again. Your picture is kept here: try again once it runs.",
  });
}

function answerError(status, text) {
  let said = text.replace(/<[^>]*>/g, " ").replace(/\s+/g, " ").trim().slice(0, 600);
  try {
    said = String(JSON.parse(text).error ?? said).slice(0, 600);
  } catch { /* Not in TensorFlow Serving's form: another service speaks here. */ }
  // An export may fail the request for a bad picture, rather than tell of it beside the others.
  const ofPicture = said.search(/\b(empty|unknown format|too large|cannot be decoded): /);
  if (status === 400 && ofPicture >= 0) return pictureError(said.slice(ofPicture));
  if (status === 413) {
    const advice = "The server takes no request of that size. Send it smaller.";
    return new CallError("That file is too large for one request", { kind: "large", advice, said });
  }
  if (status === 404 && /servable not found|could not find/i.test(said)) {
    const advice = "Check its name and version; a model that is still loading is not found either.";
    return new CallError("The server has no such model", { kind: "model", advice, said });
  }
  if (status === 429) return new CallError("The server is busy", { kind: "busy", said, advice: "Try again in a moment." });
  if (status === 503) return gone(said);
  if (status === 504 || status === 408) {
    const advice = "The model took longer than the server allows. Send the picture smaller, or raise the server's time-out.";
    return new CallError("No answer in time", { kind: "large", advice, said });
  }
  return new CallError("The server refused that", { kind: "refused", said, advice: `It answered with HTTP ${status}.` });
}

/** Returns what the `error` output of a picture means; it begins with one of a few words. */
function pictureError(said) {
  const limit = Number(/> (\d+) pixels/.exec(said)?.[1] ?? 0);
  const kinds = [
    ["empty", "That file is empty", "There is nothing in it. Take another one."],
    ["unknown format", "That is no picture that this model reads", "It goes by the file's first bytes, not by its name."],
    ["too large", "That picture is larger than this model takes", "The page can send it smaller."],
    ["cannot be decoded", "That picture cannot be decoded", "It seems to be damaged, cut off, or of an unusual kind."],
  ];
  const [kind, title, advice] = kinds.find(([word]) => said.startsWith(word)) ?? ["refused", "The model refused that picture", ""];
  return new CallError(title, { kind, advice, said, limit });
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}
