// Small helpers around the page's elements, and figures in words.

export const byId = (id) => document.getElementById(id);

/** Makes an element with properties and children; texts are texts, never markup. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function show(element, isShown = true) {
  element.hidden = !isShown;
}

export const count = (number) => number.toLocaleString("en");
export const pixels = (number) => `${count(number)} ${number === 1 ? "pixel" : "pixels"}`;
export const percent = (part) => `${(100 * part).toFixed(1)} %`;
export const milliseconds = (time) => (time < 10 ? `${time.toFixed(1)} ms` : time < 10000 ? `${Math.round(time)} ms` : `${(time / 1000).toFixed(1)} s`);

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  return size < 1e6 ? `${(size / 1e3).toFixed(size < 1e4 ? 1 : 0)} kB` : `${(size / 1e6).toFixed(1)} MB`;
}

/** Hands a file to the user. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
