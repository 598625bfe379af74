// What went wrong, in plain words, and what can be done about it.

import { convert } from "../pixels/photo.js";
import { CallError } from "../server/api.js";
import { now } from "../state.js";
import { byId, show } from "./dom.js";

const ROOM = 0.95; // of what a model takes: its input may be padded to more than the picture

let resend = async () => {};

/** Names what sends a picture that has been mended. */
export function sendMendedBy(send) {
  resend = send;
}

/** Says how the server stands: wait, ready or gone. */
export function setState(kind, text) {
  byId("server").className = `server ${kind}`;
  byId("server-state").textContent = text;
}

/** Shows an error over the picture. `retry` does again what failed. */
export function showProblem(error, retry) {
  const known = error instanceof CallError ? error : new CallError("Something went wrong in this page", { said: String(error) });
  if (known.kind === "gone") setState("gone", "does not answer");
  byId("problem-title").textContent = known.message;
  byId("problem-text").textContent = known.advice;
  byId("problem-said").textContent = known.said ? `The server says: ${known.said}` : "";
  show(byId("problem-said"), Boolean(known.said));
  const mend = byId("problem-mend");
  const canMend = now.photo?.shown && ["unknown format", "cannot be decoded", "too large", "large"].includes(known.kind);
  const isLarge = known.kind === "too large" || known.kind === "large";
  const most = isLarge ? Math.floor(known.limit * ROOM || (now.photo?.width * now.photo?.height) / 4) : 0;
  show(mend, Boolean(canMend));
  mend.textContent = isLarge ? `Send it with ${(most / 1e6).toFixed(1)} megapixels` : "Send it as PNG";
  mend.onclick = async () => {
    show(byId("problem"), false);
    show(byId("busy"));
    try {
      await resend(await convert(now.photo, most));
    } catch (failure) {
      showProblem(failure, retry);
    }
  };
  byId("problem-retry").onclick = () => {
    show(byId("problem"), false);
    retry();
  };
  // What no browser shows either stays what it is, however often it is sent.
  const isOfFile = ["empty", "file"].includes(known.kind) || (!canMend && ["unknown format", "cannot be decoded", "too large"].includes(known.kind));
  show(byId("problem-retry"), !isOfFile);
  show(byId("busy"), false);
  show(byId("problem"));
  (canMend ? mend : byId(isOfFile ? "problem-another" : "problem-retry")).focus({ preventScroll: true });
}
