// The picture and its result, one over the other: zoom, pan, and the divider between them.
// Only what the screen shows is painted, whatever the size of the picture.

const MARGIN = 12;
const LARGEST_SCALE = 40;
const SHARP_SCALE = 4; // from here on single pixels are shown as such
const MOST_PAINTED = 4.5e6;
const CHECKER_PX = 8;

export class Stage {
  #view = { scale: 1, x: 0, y: 0 };
  #size = { width: 0, height: 0 }; // of the picture
  #photo = null;
  #layer = null; // {values, truth, tables} or {bitmap}
  #divider = 50;
  #isDirty = { photo: false, result: false };
  #frame = 0;
  #painted = [];
  #pointers = new Map();
  #isFitted = true;

  /** @param elements `pictures` with the two canvases and the divider in it, and `level`, the zoom in words */
  constructor({ pictures, original, result, divider, level }) {
    Object.assign(this, { pictures, original, result, divider, level });
    new ResizeObserver(() => (this.#isFitted ? this.fit() : this.#redraw())).observe(pictures);
    this.#listen();
    this.setDivider(50);
  }

  /** Shows another picture: a bitmap (null: none can be shown), and its size in pixels. */
  setPhoto(bitmap, width, height) {
    this.#photo = bitmap;
    this.#size = { width, height };
    this.#layer = null;
    this.divider.hidden = !bitmap;
    this.pictures.style.setProperty("--at", bitmap ? `${this.#divider}%` : "0%");
    this.fit();
  }

  /** Lays values over it, as tables colour them (even and odd fields), or another picture; null is nothing. */
  setLayer(layer) {
    this.#layer = layer;
    this.#redraw(false);
  }

  /** Promises the time at which what is set now has been painted. */
  painted() {
    return new Promise((done) => {
      this.#painted.push(done);
      this.#redraw(false);
    });
  }

  fit() {
    const { clientWidth, clientHeight } = this.pictures;
    const { width, height } = this.#size;
    if (!width || !clientWidth) return;
    const scale = this.#fittingScale();
    this.#view = { scale, x: (clientWidth - width * scale) / 2, y: (clientHeight - height * scale) / 2 };
    this.#isFitted = true;
    this.#redraw();
  }

  /** Zooms by a factor around a point of the stage; its middle unless one is given. */
  zoom(factor, x = this.pictures.clientWidth / 2, y = this.pictures.clientHeight / 2) {
    const view = this.#view;
    const scale = Math.min(LARGEST_SCALE, Math.max(this.#fittingScale(), view.scale * factor));
    if (scale <= this.#fittingScale()) return this.fit();
    const ratio = scale / view.scale;
    this.#view = { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
    this.#isFitted = false;
    this.pan(0, 0);
  }

  pan(dx, dy) {
    const bound = (at, size, room) => (size <= room ? (room - size) / 2 : Math.min(room / 3, Math.max(room / 1.5 - size, at)));
    const { scale, x, y } = this.#view;
    const { clientWidth, clientHeight } = this.pictures;
    this.#view = {
      scale,
      x: bound(x + dx, this.#size.width * scale, clientWidth),
      y: bound(y + dy, this.#size.height * scale, clientHeight),
    };
    this.#redraw();
  }

  /** Puts the divider at a percentage of the stage's width. */
  setDivider(percent) {
    this.#divider = Math.min(100, Math.max(0, percent));
    const shown = Math.round(this.#divider);
    this.pictures.style.setProperty("--at", `${this.#divider}%`);
    this.divider.setAttribute("aria-valuenow", shown);
    this.divider.setAttribute("aria-valuetext", `${shown} % original, ${100 - shown} % result`);
  }

  #fittingScale() {
    const { clientWidth, clientHeight } = this.pictures;
    const { width, height } = this.#size;
    return Math.min((clientWidth - 2 * MARGIN) / width, (clientHeight - 2 * MARGIN) / height, SHARP_SCALE);
  }

  #redraw(withPhoto = true) {
    this.#isDirty.result = true;
    this.#isDirty.photo ||= withPhoto;
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#frame = 0;
    if (this.#isDirty.photo) this.#paintPhoto();
    this.#paintResult();
    this.#isDirty = { photo: false, result: false };
    const waiting = this.#painted.splice(0);
    if (!waiting.length) return;
    // A message comes after the frame in which it was sent has been painted.
    const channel = new MessageChannel();
    channel.port1.onmessage = () => waiting.forEach((done) => done(performance.now()));
    channel.port2.postMessage(null);
  }

  /** Sizes a canvas for the screen; returns its context, cleared, and where the picture lies in it. */
  #prepare(canvas, density) {
    const width = Math.round(this.pictures.clientWidth * density);
    const height = Math.round(this.pictures.clientHeight * density);
    const context = canvas.getContext("2d");
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    else context.clearRect(0, 0, width, height);
    const { scale, x, y } = this.#view;
    return { context, width, height, scale: scale * density, left: x * density, top: y * density };
  }

  #paintPhoto() {
    const density = Math.min(devicePixelRatio, 2);
    const place = this.#prepare(this.original, density);
    if (this.#photo) this.#drawBitmap(this.#photo, place);
    const { scale } = this.#view;
    this.level.textContent = `${Math.round(scale * devicePixelRatio * 100)} %`;
    this.pictures.classList.toggle("zoomed", !this.#isFitted);
  }

  #paintResult() {
    const layer = this.#layer;
    const { clientWidth, clientHeight } = this.pictures;
    // At a smaller scale every dot of the screen is the mean of four, so that edges are smooth.
    const wanted = Math.max(Math.min(devicePixelRatio, 2), this.#view.scale < 1 ? 2 : 1);
    const density = Math.min(wanted, Math.sqrt(MOST_PAINTED / Math.max(1, clientWidth * clientHeight)));
    const place = this.#prepare(this.result, density);
    if (layer?.bitmap) this.#drawBitmap(layer.bitmap, place);
    else if (layer) paintValues(layer, this.#size, place, Math.round(CHECKER_PX * density));
  }

  #drawBitmap(bitmap, { context, scale, left, top }) {
    context.imageSmoothingEnabled = this.#view.scale < SHARP_SCALE;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, left, top, this.#size.width * scale, this.#size.height * scale);
  }

  #listen() {
    const { pictures, divider } = this;
    const percentAt = (event) => {
      const { left, width } = pictures.getBoundingClientRect();
      return (100 * (event.clientX - left)) / width;
    };
    pictures.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      pictures.setPointerCapture(event.pointerId);
      const movesDivider = divider.contains(event.target) || (this.#isFitted && !divider.hidden);
      this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, movesDivider });
      if (movesDivider && divider.contains(event.target)) divider.focus({ preventScroll: true });
    });
    pictures.addEventListener("pointermove", (event) => {
      const last = this.#pointers.get(event.pointerId);
      if (!last) return;
      if (this.#pointers.size === 2) this.#pinch(event);
      else if (last.movesDivider) this.setDivider(percentAt(event));
      else this.pan(event.clientX - last.x, event.clientY - last.y);
      Object.assign(last, { x: event.clientX, y: event.clientY });
    });
    for (const name of ["pointerup", "pointercancel"]) {
      pictures.addEventListener(name, (event) => this.#pointers.delete(event.pointerId));
    }
    pictures.addEventListener("wheel", (event) => {
      // Where the page itself scrolls, the wheel is the page's unless a key says otherwise.
      const pageScrolls = document.scrollingElement.scrollHeight > innerHeight + 1;
      if (pageScrolls && !event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const { left, top } = pictures.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.clientX - left, event.clientY - top);
    }, { passive: false });
    pictures.addEventListener("dblclick", (event) => {
      const { left, top } = pictures.getBoundingClientRect();
      if (this.#isFitted) this.zoom(Math.max(2, 1 / this.#view.scale), event.clientX - left, event.clientY - top);
      else this.fit();
    });
    pictures.addEventListener("keydown", (event) => this.#onKey(event));
  }

  #pinch(event) {
    const [one, other] = [...this.#pointers.values()];
    const moved = this.#pointers.get(event.pointerId);
    const fixed = moved === one ? other : one;
    const distance = (from, to) => Math.hypot(from.x - to.x, from.y - to.y);
    const now = { x: event.clientX, y: event.clientY };
    const { left, top } = this.pictures.getBoundingClientRect();
    this.zoom(distance(now, fixed) / Math.max(1, distance(moved, fixed)), (now.x + fixed.x) / 2 - left, (now.y + fixed.y) / 2 - top);
  }

  #onKey(event) {
    const keys = event.target === this.divider ? this.#dividerKeys(event) : this.#pictureKeys();
    const act = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  #dividerKeys(event) {
    const step = event.shiftKey ? 10 : 1;
    const by = (change) => () => this.setDivider(this.#divider + change);
    return {
      ArrowLeft: by(-step), ArrowDown: by(-step), ArrowRight: by(step), ArrowUp: by(step), PageDown: by(-10), PageUp: by(10),
      Home: () => this.setDivider(0), End: () => this.setDivider(100),
    };
  }

  #pictureKeys() {
    const zooming = { "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit() };
    if (this.#isFitted) return zooming; // arrow keys are the page's
    return {
      ...zooming,
      ArrowLeft: () => this.pan(40, 0), ArrowRight: () => this.pan(-40, 0), ArrowUp: () => this.pan(0, 40), ArrowDown: () => this.pan(0, -40),
    };
  }
}

/**
 * Paints values by their tables.
 * @param layer `values` [height · width], perhaps `truth` of the same length, and `tables`; with a truth a table has a
 *   block of all levels for each of its values
 */
function paintValues({ values, truth, tables }, size, place, field) {
  const { context, scale, left, top } = place;
  const [x0, y0] = [Math.max(0, Math.round(left)), Math.max(0, Math.round(top))];
  const width = Math.min(place.width, Math.round(left + size.width * scale)) - x0;
  const height = Math.min(place.height, Math.round(top + size.height * scale)) - y0;
  if (width <= 0 || height <= 0) return;
  const at = (i, from, start, length) => Math.min(length - 1, Math.max(0, Math.floor((i + 0.5 + from - start) / scale)));
  const columns = new Int32Array(width);
  for (let x = 0; x < width; x++) columns[x] = at(x, x0, left, size.width);
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const [even, odd] = tables;
  const levels = truth ? even.length / 3 : 0;
  for (let y = 0, out = 0; y < height; y++) {
    const row = at(y, y0, top, size.height) * size.width;
    if (truth) {
      for (let x = 0; x < width; x++) {
        const index = row + columns[x];
        pixels[out++] = even[values[index] + levels * truth[index]];
      }
    } else if (even === odd) {
      for (let x = 0; x < width; x++) pixels[out++] = even[values[row + columns[x]]];
    } else {
      const oddRow = Math.floor(y / field) & 1;
      for (let x = 0; x < width; x++) {
        pixels[out++] = ((Math.floor(x / field) & 1) === oddRow ? even : odd)[values[row + columns[x]]];
      }
    }
  }
  context.putImageData(image, x0, y0);
}
