// What every explorable is made of: panels with axes, handles to drag, sliders, buttons, words.

/** An element with properties and children. */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  if (["button", "input", "select"].includes(tag)) made.dataset.lmSuppressShortcuts = "true"; // JupyterLab's, for the same keys
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A number for a reader: so many digits after the first of its size, with a real minus sign. */
export function said(value, digits = 3) {
  if (value === null || !Number.isFinite(value)) return "unknown";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-4 || size >= 1e5)
    ? value.toExponential(Math.max(digits - 2, 0)) : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−").replace("e-", "e−");
}

/** Round steps for an axis: about ``count`` of them between two ends. */
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(rough));
  const steps = [10, 5, 2, 1, 0.5].map((factor) => factor * power);
  const by = (step) => {
    const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  };
  const at = steps.findLastIndex((each) => each >= rough * 0.999), made = by(steps[at]);
  return made.length > 1 || at + 1 === steps.length ? made : by(steps[at + 1]); // one number is no scale
}

function decades(low, high, count) {
  const [first, last] = [Math.ceil(low), Math.floor(high)], every = Math.max(1, Math.ceil((last - first) / count));
  return Array.from({ length: Math.floor((last - first) / every) + 1 }, (_, i) => first + i * every);
}

/** The ends of an axis that holds all finite values and those of ``least``, with a margin. */
export function reach(values, least = [0, 0]) {
  let [low, high] = least;
  for (const value of values) {
    if (value < low && Number.isFinite(value)) low = value;
    if (value > high && Number.isFinite(value)) high = value;
  }
  if (low === high) [low, high] = [low - 1, high + 1];
  const margin = 0.06 * (high - low);
  return [low - margin, high + margin];
}

/**
 * A picture with axes. `draw` takes marks: ``{kind, x, y, look, name}``, of the kinds line, steps, dots, specks,
 * cross, ring, band (an interval of x), rule (a line across at x) and level (at y). Names make the legend.
 */
export class Panel {
  constructor(title, xlabel, ylabel, { height = 240, log = false, square = false, xnames = null, tallest = 340, left = 54, glides = false } = {}) {
    Object.assign(this, { height, log, xnames, tallest, room: left, marks: [], shapes: [], handles: [], x: [0, 1], y: [0, 1] });
    this.plot = svg("g", { class: glides ? "trc-glides" : "" });
    this.axes = svg("g", { class: "trc-axes" });
    this.svg = svg("svg", { role: "img", height }, this.axes, this.plot);
    this.legend = h("span", { class: "trc-legend" });
    this.heading = h("span", { class: "trc-title" }, title);
    this.area = h("div", { class: "trc-area" }, this.svg);
    this.element = h("figure", { class: "trc-panel" },
      h("figcaption", {}, this.heading, this.legend), this.area);
    this.labels = [xlabel, ylabel];
    this.square = square;
    this.tip = h("span", { class: "trc-tip", "aria-hidden": "true", hidden: "" }); // the sentences are for screen readers
    this.area.append(this.tip);
    this.area.addEventListener("pointermove", (event) => this.point(event));
    this.area.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    new ResizeObserver(([entry]) => this.resize(entry.contentRect.width)).observe(this.area);
    this.resize(320);
  }

  resize(width) {
    if (width < 40 || Math.abs(width - this.width) < 1) return;
    if (this.square) this.height = Math.min(Math.max(0.82 * width, 220), this.tallest);
    const left = this.room, right = 12, top = 8, bottom = 38;
    Object.assign(this, { width, left, top, inner: [width - left - right, this.height - top - bottom] });
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", this.height);
    this.drawn = null;
    this.draw(this.marks);
  }

  /** The ends of the axes; they stay while a handle is dragged, so that it stays under the finger. */
  limits(x, y) {
    if (!this.held && `${x},${y}` !== `${this.x},${this.y}`) Object.assign(this, { x, y, drawn: null });
    this.plot.classList.toggle("trc-still", !this.drawn || Boolean(this.held)); // lines glide from cycle to cycle, but not with the axes
  }

  px(value) {
    return this.left + (value - this.x[0]) / (this.x[1] - this.x[0]) * this.inner[0];
  }

  py(value) {
    const level = this.log ? Math.log10(Math.max(value, 1e-300)) : value;
    const share = (level - this.y[0]) / (this.y[1] - this.y[0]);
    return this.top + (1 - Math.min(Math.max(share, -9), 9)) * this.inner[1];
  }

  /** Where a place in the picture is, in the units of its axes. */
  place(px, py) {
    return [this.x[0] + (px - this.left) / this.inner[0] * (this.x[1] - this.x[0]),
      this.y[1] - (py - this.top) / this.inner[1] * (this.y[1] - this.y[0])];
  }

  draw(marks) {
    this.marks = marks;
    if (!this.drawn) this.drawAxes();
    marks.forEach((mark, i) => {
      const tag = mark.kind === "band" ? "rect" : "path";
      let shape = this.shapes[i];
      if (shape?.tagName !== tag) {
        const fresh = svg(tag);
        shape ? shape.replaceWith(fresh) : this.plot.append(fresh);
        shape = this.shapes[i] = fresh;
      }
      const look = `trc-mark ${mark.look ?? ""} trc-${mark.kind}`;
      if (shape.getAttribute("class") !== look) shape.setAttribute("class", look);
      if (shape.style.stroke !== (mark.color ?? "")) shape.style.stroke = mark.color ?? "";
      this.shape(shape, mark);
    });
    for (const shape of this.shapes.splice(marks.length)) shape.remove();
    const named = marks.filter((mark) => mark.name).map((mark) => `${mark.look}|${mark.kind}|${mark.name}|${mark.color ?? ""}`);
    if (String(named) !== this.named) {
      this.named = String(named);
      this.legend.replaceChildren(...new Map(marks.filter((mark) => mark.name).map((mark) => [mark.name, swatch(mark)])).values());
    }
    for (const handle of this.handles) handle.move();
  }

  /** Says the numbers of the point of a named mark that is next to the pointer, if one is near. */
  point(event) {
    const frame = this.svg.getBoundingClientRect(), [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
    let best = null, nearest = this.held ? 0 : NEAR;
    for (const { kind, name, x, y } of this.marks) {
      if (!name || !Array.isArray(y) && !ArrayBuffer.isView(y)) continue;
      for (let i = 0; i < y.length; i++) {
        const across = kind === "steps" ? Math.max(this.px(x[i]) - px, 0, px - this.px(x[i + 1])) : Math.abs(this.px(x[i]) - px);
        const away = Math.hypot(across, this.py(y[i]) - py);
        if (away < nearest) [nearest, best] = [away, { name, x: x[i], y: y[i] }];
      }
    }
    this.tip.hidden = !best;
    if (!best) return;
    const [across, up] = this.labels.map((label) => label.match(/\(([^()]*)\)$/)?.[1] ?? "");
    const where = this.labels[0] === "cycle" ? `cycle ${best.x}` : `${said(best.x)} ${across}`.trim();
    this.tip.textContent = `${best.name}: ${where}, ${said(best.y)} ${up}`.trim();
    this.tip.style.left = `${Math.min(Math.max(px, 70), this.width - 70)}px`;
    this.tip.style.top = `${py + (py < 60 ? 20 : -34)}px`;
  }

  shape(shape, { kind, x, y }) {
    const { left, top, inner: [width, height] } = this;
    if (kind === "band") {
      const ends = x.map((each) => Math.min(Math.max(this.px(each), left), left + width));
      shape.setAttribute("x", ends[0]);
      shape.setAttribute("y", top);
      shape.setAttribute("width", Math.max(ends[1] - ends[0], 0));
      shape.setAttribute("height", height);
      return;
    }
    const at = (i) => `${this.px(x[i]).toFixed(1)} ${this.py(y[i]).toFixed(1)}`;
    let d = "";
    if (kind === "rule") d = `M${this.px(x)} ${top}V${top + height}`;
    else if (kind === "level") d = `M${left} ${this.py(y)}H${left + width}`;
    else if (kind === "steps") {
      for (let i = 0; i < y.length; i++) d += `${i ? "L" : "M"}${at(i)}H${this.px(x[i + 1]).toFixed(1)}`;
    } else if (kind === "cross") {
      for (let i = 0; i < x.length; i++) d += `M${at(i)}m-6 -6l12 12m0 -12l-12 12`;
    } else if (kind === "dots" || kind === "specks" || kind === "ring") {
      const r = { dots: 3.5, specks: 2.2, ring: 7 }[kind];
      for (let i = 0; i < x.length; i++) d += `M${at(i)}m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
    } else {
      for (let i = 0, pen = "M"; i < x.length; i++) {
        if (!Number.isFinite(x[i]) || !Number.isFinite(y[i])) pen = "M";
        else [d, pen] = [d + pen + at(i), "L"];
      }
    }
    shape.setAttribute("d", d);
  }

  drawAxes() {
    const { left, top, inner: [width, height] } = this, bottom = top + height, clip = `trc-clip-${serial++}`;
    const grid = [], texts = [];
    const places = this.xnames ? this.xnames.map((_, i) => i) : ticks(...this.x, width / 70);
    for (const value of places) {
      grid.push(`M${this.px(value)} ${top}V${bottom}`);
      texts.push(svg("text", { x: this.px(value), y: bottom + 15, "text-anchor": "middle" }, this.xnames?.[value] ?? written(value)));
    }
    const rows = this.log ? decades(...this.y, height / 32) : ticks(...this.y, height / 38);
    for (const value of rows) {
      const y = this.py(this.log ? 10 ** value : value);
      grid.push(`M${left} ${y}H${left + width}`);
      const text = svg("text", { x: left - 5, y: y + 4, "text-anchor": "end" }, this.log ? "10" : written(value));
      if (this.log) text.append(svg("tspan", { dy: -5, "font-size": "9" }, written(value)));
      texts.push(text);
    }
    const [xlabel, ylabel] = this.labels, middle = top + height / 2;
    texts.push(svg("text", { x: left + width / 2, y: bottom + 32, "text-anchor": "middle" }, xlabel));
    texts.push(svg("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, ylabel));
    this.axes.replaceChildren(
      svg("clipPath", { id: clip }, svg("rect", { x: left - 1, y: top - 1, width: width + 2, height: height + 2 })),
      svg("path", { class: "trc-grid", d: grid.join("") }),
      svg("rect", { class: "trc-frame", x: left, y: top, width, height }), ...texts);
    this.plot.setAttribute("clip-path", `url(#${clip})`);
    this.drawn = true;
    if (this.cells) {
      const place = { left, top, width, height };
      for (const [name, value] of Object.entries(place)) this.cells.style[name] = `${value}px`;
    }
  }

  /** Cells that fill the axes, behind the marks: ``color(i, j)`` gives [r, g, b] of column i and row j from below. */
  paint(columns, rows, color) {
    if (!this.cells) {
      this.cells = h("canvas", { class: "trc-cells", "aria-hidden": "true" });
      this.area.classList.add("trc-with-cells");
      this.area.prepend(this.cells);
      this.drawAxes();
    }
    Object.assign(this.cells, { width: columns, height: rows });
    const context = this.cells.getContext("2d"), image = context.createImageData(columns, rows);
    for (let j = 0; j < rows; j++) {
      for (let i = 0, at = 4 * (rows - 1 - j) * columns; i < columns; i++, at += 4) {
        [image.data[at], image.data[at + 1], image.data[at + 2]] = color(i, j);
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
  }

  /** The picture in words, for those who do not see it. */
  describe(text) {
    if (this.words !== text) this.svg.setAttribute("aria-label", this.words = text);
  }

  /**
   * A point to drag, or to move by the arrow keys (with Shift ten steps).
   *
   * ``get()`` gives its place, ``set(place)`` takes one, ``step`` is that of a key, ``words()`` says where it is.
   */
  handle(name, look, { get, set, step, words, box }) {
    const button = h("button", { class: `trc-handle ${look}`, type: "button", role: "slider", "aria-roledescription": "point",
      "aria-label": `${name}; arrow keys move it` });
    const inside = (place) => place.map((each, i) => Math.min(Math.max(each, box[0][i]), box[1][i]));
    const moved = (event) => {
      this.held = true;
      const frame = this.svg.getBoundingClientRect();
      set(inside(this.place(event.clientX - frame.left, event.clientY - frame.top)));
    };
    const grab = (pointer) => {
      button.focus({ preventScroll: true });
      button.setPointerCapture(pointer);
      button.addEventListener("pointermove", moved);
    };
    button.addEventListener("pointerdown", (event) => { // handles overlap: the nearest is meant
      if (event.button !== 0 || !event.isPrimary) return;
      event.preventDefault();
      const away = ({ middle: [x, y] }) => Math.hypot(event.clientX - x, event.clientY - y);
      const middles = this.handles.filter((each) => each.button.offsetParent).map((each) => {
        const box = each.button.getBoundingClientRect();
        return { grab: each.grab, middle: [box.x + box.width / 2, box.y + box.height / 2] };
      });
      middles.reduce((best, each) => (away(each) < away(best) ? each : best)).grab(event.pointerId);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(end, () => {
        button.removeEventListener("pointermove", moved);
        if (!this.held) return;
        this.held = false;
        set(get()); // the axes may follow now
      });
    }
    button.addEventListener("keydown", (event) => {
      const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
      if (!dx && !dy) return;
      event.preventDefault();
      const far = event.shiftKey ? 10 : 1, [x, y] = get();
      set(inside([x + far * dx * step[0], y + far * dy * step[1]]));
    });
    const move = () => {
      const [x, y] = get();
      button.style.left = `${this.px(x)}px`;
      button.style.top = `${this.py(y)}px`;
      button.setAttribute("aria-valuenow", x);
      button.setAttribute("aria-valuetext", words());
    };
    this.area.append(button);
    this.handles.push({ move, grab, button });
    move();
    return button;
  }
}

const NEAR = 14; // pixels from a mark within which its numbers are said
let serial = Math.floor(Math.random() * 1e12); // each widget of a page has its own copy of this module
const written = (value) => (String(value).length > 7 ? value.toExponential() : String(value)).replace("e+", "e").replaceAll("-", "−");

function swatch({ kind, look, name, color }) {
  const d = { dots: "M6 6m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0", specks: "M6 6m-2.2 0a2.2 2.2 0 1 0 4.4 0a2.2 2.2 0 1 0 -4.4 0", cross: "M2 2l8 8m0 -8l-8 8", ring: "M6 6m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0" }[kind];
  const band = kind === "band" ? svg("rect", { x: 0, y: 1, width: 18, height: 10, class: `trc-mark ${look} trc-band` }) : null;
  const line = svg("path", { class: `trc-mark ${look} trc-${kind}`, d: d ?? "M0 6H20" });
  if (color) line.style.stroke = color;
  return h("span", {}, svg("svg", { width: d ? 13 : 22, height: 12, "aria-hidden": "true" }, band ?? line), name);
}

/** Values as colours, from blue (``-range``) over the paper's colour to red: rows of a latent over time. */
export class Strip {
  constructor(title, xlabel, ylabel, range, height = 190, every = 1) {
    Object.assign(this, { range, every }); // a tick every so many columns
    this.canvas = h("canvas", { role: "img", class: "trc-strip" });
    this.marker = h("div", { class: "trc-marker" });
    this.ticks = h("div", { class: "trc-ticks", "aria-hidden": "true" });
    const scale = h("span", { class: "trc-scale" }, `−${range}`, h("i", { class: "trc-bar" }), `${range}`);
    this.element = h("figure", { class: "trc-panel" },
      h("figcaption", {}, h("span", { class: "trc-title" }, title), scale),
      h("div", { class: "trc-strip-area", style: `height: ${height}px` }, h("span", { class: "trc-side" }, ylabel), h("div", { class: "trc-area" }, this.canvas, this.marker)),
      this.ticks, h("div", { class: "trc-below" }, xlabel));
  }

  /** ``columns``: one array of values for each moment; there is room for ``width`` of them. */
  draw(columns, width) {
    const height = columns[0].length, { canvas, range } = this;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    for (let i = 0; i < columns.length; i++) {
      for (let j = 0; j < height; j++) {
        const share = Math.min(Math.max(columns[i][j] / range, -1), 1), pale = 1 - Math.abs(share);
        const strong = share < 0 ? [33, 102, 172] : [178, 24, 43];
        const at = 4 * (j * width + i);
        for (let k = 0; k < 3; k++) image.data[at + k] = 247 * pale + strong[k] * (1 - pale);
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    if (this.width === width) return;
    this.width = width;
    const count = Math.floor((width - 1) / this.every) + 1, some = Math.ceil(count / 12);
    this.ticks.replaceChildren(...Array.from({ length: Math.ceil(count / some) }, (_, i) =>
      h("span", { style: `left: ${100 * (i * some * this.every + 0.5) / width}%` }, String(i * some))));
  }

  mark(i) {
    this.marker.style.left = `${100 * (i + 0.5) / this.width}%`;
  }

  describe(text) {
    this.canvas.setAttribute("aria-label", text);
  }
}

let labels = Math.floor(Math.random() * 1e12);

/** A labelled control; ``act`` gets its value. Returns ``{element, set(value, words)}``. */
export function slider(label, { min, max, step, value, words = String, act }) {
  const id = `trc-control-${labels++}`, output = h("output", { for: id });
  const input = h("input", { type: "range", id, min, max, step, oninput: () => act(Number(input.value)) });
  const set = (now) => {
    input.value = now;
    const text = words(now);
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  set(value);
  return { element: h("span", { class: "trc-control" }, h("label", { for: id }, label), input, output), set, input };
}

export function choice(label, options, value, act) {
  const id = `trc-control-${labels++}`;
  const input = h("select", { id, onchange: () => act(input.value) }, ...options.map((each) => h("option", { value: each }, each)));
  input.value = value;
  return { element: h("span", { class: "trc-control" }, h("label", { for: id }, label), input), set: (now) => { input.value = now; } };
}

export const button = (label, act) => h("button", { type: "button", class: "trc-button", onclick: act }, label);

/** A titled group of controls. */
export const group = (name, ...children) => h("div", { class: "trc-group", role: "group", "aria-label": name },
  h("span", { class: "trc-group-name" }, name), ...children);

/** Plays whole numbers up to ``last``; ``get`` and ``set`` are of the number. */
export function player(last, get, set) {
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    made.textContent = "▶ play";
  };
  const made = button("▶ play", () => {
    if (timer) return stop();
    if (get() >= last()) set(0);
    made.textContent = "❚❚ pause";
    timer = setInterval(() => {
      if (get() >= last() || !made.isConnected) return stop();
      set(get() + 1);
      if (get() >= last()) stop();
    }, 700);
  });
  return made;
}

/**
 * The frame of an explorable in ``el``: draws at most once a frame, says what it shows, shows errors in words.
 *
 * ``draw()`` returns the sentence that says what is shown; it stands under the first child, the controls.
 * Returns ``{root, redraw}``.
 */
export function frame(el, name, draw, ...children) {
  const sentence = h("p", { class: "trc-says" }), aloud = h("p", { class: "trc-aloud", role: "status" });
  const root = h("section", { class: "trc", "aria-label": name },
    ...children.slice(0, 1), sentence, aloud, ...children.slice(1));
  let waiting = false, later = null;
  const now = () => {
    waiting = false;
    const began = performance.now();
    try {
      sentence.textContent = draw();
      root.classList.remove("trc-failed");
    } catch (error) {
      sentence.textContent = `This cannot be shown: ${error.message}`;
      root.classList.add("trc-failed");
    }
    root.dataset.milliseconds = (performance.now() - began).toFixed(2);
    root.dataset.drawn = Number(root.dataset.drawn ?? 0) + 1;
    clearTimeout(later);
    later = setTimeout(() => { // only the one that is being used speaks
      if (root.contains(document.activeElement) && aloud.textContent !== sentence.textContent) aloud.textContent = sentence.textContent;
    }, 600);
  };
  el.append(root);
  return { root, redraw: () => { waiting ||= Boolean(requestAnimationFrame(now)); } };
}

/**
 * Traits of a model: `get`, `set` here and in the kernel (a little later), `follow` changes from there. A widget's
 * `render` returns `leave`, which ends that.
 */
export function shared(model, redraw) {
  const followed = [];
  let later = null;
  const send = () => {
    later = null;
    model.save_changes();
  };
  return {
    get: (name) => model.get(name),
    set: (values) => {
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      later ??= setTimeout(send, 80);
      redraw();
    },
    follow: (...names) => names.forEach((name) => {
      followed.push(`change:${name}`);
      model.on(followed.at(-1), redraw);
    }),
    leave: () => {
      if (later) send(clearTimeout(later));
      for (const event of followed.splice(0)) model.off(event, redraw);
    },
  };
}
