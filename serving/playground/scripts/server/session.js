// One model on the server: what it is, and what it answers about a picture.

import { CallError, predict, readInfo, readSignatures } from "./api.js";
import { clean } from "../pixels/clean.js";
import { decodePng, pngSize } from "../pixels/png.js";
import { decodeWhole } from "../pixels/photo.js";

const NO_PICTURES = {
  kind: "model",
  advice: "It takes arrays of pixels, or rasters of bands, which a page cannot send. Use mask-client or the Python client.",
};

export class Session {
  /** @param target `{model, version, label}` */
  constructor(target) {
    this.target = target;
    this.info = null;
    this.signatures = new Set();
  }

  /** Learns what the model is. */
  async begin(signal) {
    const names = await readSignatures(this.target, signal);
    this.signatures = new Set(names);
    if (this.has("export_info")) this.info = await readInfo(this.target, signal);
    if (!names.some((name) => name.includes("_png"))) throw new CallError("This model takes no photographs as files", NO_PICTURES);
  }

  has(signature) {
    return this.signatures.has(signature);
  }

  get spec() {
    return this.info?.spec ?? {};
  }

  /** The threshold of signatures that take none; null where it is not known. */
  get ownThreshold() {
    return this.info?.threshold ?? null;
  }

  get classNames() {
    return this.info?.classes ?? null;
  }

  /** The names of the classes that the mask is of, where they are known. */
  get foregroundNames() {
    return (this.info?.foreground?.channels ?? []).map((index) => this.classNames?.[index]).filter(Boolean);
  }

  get hasProbability() {
    return this.has("probability_png");
  }

  /** Why the threshold cannot be moved; empty where it can. */
  get whyNoThreshold() {
    if (this.hasProbability || this.has("mask_png_at_threshold")) return "";
    if (this.info?.model?.answers_classes) return "This model answers classes, not probabilities: there is no threshold.";
    return "This export has neither probability_png nor mask_png_at_threshold.";
  }

  /** Which signature gives a product at a threshold, and what it is sent: `{signature, threshold}`; null if none does. */
  signatureFor(product, threshold) {
    const plain = `${product}_png`;
    const isOwn = this.ownThreshold === null ? !this.has(`${plain}_at_threshold`) : Math.abs(threshold - this.ownThreshold) < 1e-9;
    if (this.has(plain) && (isOwn || this.whyNoThreshold)) return { signature: plain };
    return this.has(`${plain}_at_threshold`) ? { signature: `${plain}_at_threshold`, threshold } : null;
  }

  async ask(photo, { signature, threshold }, signal) {
    return predict(this.target, signature, photo.base64, threshold, signal);
  }

  /**
   * Asks for what masks are made of: the probability once, or else the mask itself.
   * @returns `{width, height, values, isProbability, bitmap, file, cost, decodeMs}`; `values` are of 16 bits where they are
   *   probabilities, cleaned as masks are; only a bitmap where the model gives nothing but masked images
   */
  async read(photo, threshold, signal) {
    const wanted = this.hasProbability
      ? { signature: "probability_png" }
      : this.signatureFor("mask", threshold) ?? this.signatureFor("masked_image", threshold) ?? { signature: "class_map_png" };
    const answer = await this.ask(photo, wanted, signal);
    const started = performance.now();
    if (wanted.signature.startsWith("masked_image")) {
      const bitmap = await decodeWhole(new Blob([answer.bytes], { type: "image/png" }));
      return { ...pngSize(answer.bytes), values: null, bitmap, file: answer.bytes, cost: answer, decodeMs: performance.now() - started };
    }
    const { width, height, values } = await decodePng(answer.bytes);
    const isProbability = this.hasProbability;
    const cleaned = isProbability ? await clean(values, width, height, this.spec.clean ?? {}) : values;
    return {
      width, height, raw: values, isProbability, file: answer.bytes, cost: answer,
      // The class map of a model that gives nothing else is read again for its own view.
      values: wanted.signature === "class_map_png" ? null : cleaned, decodeMs: performance.now() - started,
    };
  }

  /** Asks for the server's own mask at a threshold: `{values, file, cost}`; null where no signature gives it. */
  async readMask(photo, threshold, signal) {
    const wanted = this.signatureFor("mask", threshold);
    if (!wanted) return null;
    const cost = await this.ask(photo, wanted, signal);
    return { values: (await decodePng(cost.bytes)).values, file: cost.bytes, cost };
  }

  /** Asks for the class of each pixel. */
  async readClasses(photo, signal) {
    const cost = await this.ask(photo, { signature: "class_map_png" }, signal);
    const started = performance.now();
    const { values } = await decodePng(cost.bytes);
    return { values, file: cost.bytes, cost, decodeMs: performance.now() - started };
  }
}
