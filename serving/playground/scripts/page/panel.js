// What stands beside and below the picture: figures, the spread of probabilities, the legend, what calls took.

import { byId, bytes, count, make, milliseconds, percent, pixels, show } from "./dom.js";
import { lastBackground } from "../pixels/tally.js";
import { AGREED, classColour, css, EXTRA, heat, MISSED, VIEWS } from "./views.js";

const BINS = 100;
const LEGEND_CLASSES = 40;

/** Makes the choice of views: radio buttons, which arrow keys go through. */
export function fillViews(onChoice) {
  byId("views").replaceChildren(
    ...VIEWS.map(({ name, title }) => {
      const input = make("input", { type: "radio", name: "view", value: name, id: `view-${name}`, onchange: () => onChoice(name) });
      return make("span", { className: "view" }, input, make("label", { htmlFor: input.id }, title));
    }),
  );
}

/** Ticks a view, and says of those that cannot be shown why. `why` gives a reason by name, or an empty text. */
export function markViews(chosen, why) {
  for (const { name, title } of VIEWS) {
    const input = byId(`view-${name}`);
    const reason = why(name);
    input.checked = name === chosen;
    input.disabled = Boolean(reason);
    input.parentElement.title = reason;
    input.setAttribute("aria-label", reason ? `${title}: ${reason}` : title);
  }
}

/** Draws how many pixels have which probability, the foreground's in colour, and the IoU at each threshold. */
export function drawSpread(tally, threshold, withScores) {
  const canvas = byId("spread");
  show(canvas, Boolean(tally));
  if (!tally) return;
  const density = Math.min(devicePixelRatio, 2);
  const [width, height] = [canvas.clientWidth * density, canvas.clientHeight * density].map(Math.round);
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const between = (from, to) => tally.above[Math.ceil(from)] - tally.above[Math.ceil(to)];
  const bins = Array.from({ length: BINS }, (_, i) => between((i * tally.levels) / BINS, ((i + 1) * tally.levels) / BINS));
  const highest = Math.log1p(Math.max(...bins));
  const bar = width / BINS;
  bins.forEach((amount, i) => {
    const tall = (Math.log1p(amount) / highest) * (height - 2);
    context.fillStyle = style.getPropertyValue((i + 0.5) / BINS > threshold ? "--accent" : "--bars");
    context.fillRect(i * bar, height - tall, bar - Math.min(1, density / 2), tall);
  });
  if (!withScores) return;
  context.strokeStyle = style.getPropertyValue("--ink");
  context.lineWidth = 1.5 * density;
  context.beginPath();
  for (let i = 0; i < BINS; i++) {
    context.lineTo((i + 0.5) * bar, (1 - tally.agreement(lastBackground(i / BINS)).iou) * (height - 3) + 1.5);
  }
  context.stroke();
}

/** Shows what calls took: rows `{name, milliseconds, sent, received}`; a step in the page has no bytes. */
export function showCosts(rows) {
  byId("costs").replaceChildren(
    ...rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, ...row.name.split(/(?<=_)/).flatMap((part) => [part, make("wbr")])),
      make("td", {}, milliseconds(row.milliseconds)),
      make("td", {}, row.sent === undefined ? "–" : bytes(row.sent)),
      make("td", {}, row.received === undefined ? "–" : bytes(row.received)))),
  );
}

/** Says how much of the picture is foreground. */
export function showArea(area, all, what) {
  byId("area").replaceChildren(make("strong", {}, percent(area / all)), ` of the picture is ${what}: ${pixels(area)}`);
}

/** Says how the mask agrees with the server's own: `kind` is good, off, wait or plain. */
export function showCheck(text, kind = "plain", onRetry = null) {
  const check = byId("check");
  check.className = `check ${kind}`;
  check.replaceChildren(text);
  if (onRetry) check.append(" ", make("button", { type: "button", className: "link", onclick: onRetry }, "Check again"));
}

export function showScores({ iou, dice, extra, missed }) {
  byId("iou").textContent = iou.toFixed(4);
  byId("dice").textContent = dice.toFixed(4);
  byId("differing").textContent = count(extra + missed);
  byId("label-note").textContent = `${pixels(extra)} too many, ${count(missed)} missed`;
}

/** Shows what the colours of a view mean. */
export function showLegend(view, { classes, classNames, agreement }) {
  const items = {
    classes: () => classItems(classes, classNames),
    compare: () => [
      [css(AGREED), "in both"],
      [css(EXTRA), `too many: ${count(agreement.extra)}`],
      [css(MISSED), `missed: ${count(agreement.missed)}`],
    ],
    probability: () => [0, 0.25, 0.5, 0.75, 1].map((probability) => [css(heat(probability)), probability.toString()]),
  }[view]?.();
  const legend = byId("legend");
  show(legend, Boolean(items));
  legend.replaceChildren(...(items ?? []).map(([colour, text]) => {
    const swatch = make("span", { className: "swatch", "aria-hidden": "true" });
    swatch.style.backgroundColor = colour;
    return make("li", {}, swatch, text);
  }));
}

function classItems(tally, names) {
  const present = [...tally.counts.entries()].filter(([, amount]) => amount).sort((one, other) => other[1] - one[1]);
  const items = present.slice(0, LEGEND_CLASSES).map(([index, amount]) => [
    css(classColour(index)), `${className(names, index)} ${percent(amount / tally.size)}`,
  ]);
  return present.length > items.length ? [...items, ["transparent", `and ${present.length - items.length} more`]] : items;
}

export function className(names, index) {
  return names?.[index] ?? `class ${index}`;
}
