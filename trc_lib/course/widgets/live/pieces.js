// The pieces of the bounded law: which controls are at their limit, by start; on each piece the law is affine.

import { Program, rollout } from "../../../web/systems.js";
import { coarse_first, column, dual_from, filler, place_in_words, plain, times } from "./problem.js";
import { frame, group, h, Panel, said, shared, slider } from "./stage.js";

const NONE = [247, 247, 247], LOWER = [0, 68, 136], UPPER = [176, 84, 0], OUT = { key: "out of reach" },
  UNDECIDED = { key: "undecided", color: [250, 225, 120] };

/** The colour of a piece: orange if the earliest control at its limit is at the upper one, blue if at the lower. */
export function color_of(at) {
  const count = at.reduce((sum, each) => sum + Math.abs(each), 0), first = at.find((each) => each !== 0);
  if (!count) return NONE;
  const share = 0.18 + 0.82 * count / at.length, strong = first > 0 ? UPPER : LOWER;
  return NONE.map((each, k) => Math.round(each + share * (strong[k] - each)));
}

/** Cells of a map: a function of starts and a target that gives the piece of each start, the same object for the same. */
export function pieces(law) {
  const known = new Map();
  return (starts, target) => starts.map((x0) => {
    const answer = law(x0, target);
    if (answer.verdict !== "solved") return answer.verdict === "undecided" ? UNDECIDED : OUT;
    const key = String(answer.at);
    if (!known.has(key)) known.set(key, { key, at: answer.at, color: color_of(answer.at) });
    return known.get(key);
  });
}

/** The middles of points x points cells that fill a box, row by row from below. */
export function cells_of([low, high], points) {
  const middle = (i, k) => low[k] + (high[k] - low[k]) * (i + 0.5) / points;
  return Array.from({ length: points ** 2 }, (_, cell) => [middle(cell % points, 0), middle(Math.floor(cell / points), 1)]);
}

const listed = (at, side) => {
  const which = [...at.keys()].filter((k) => at[k] === side).map((k) => k + 1), runs = [];
  for (const k of which) (runs.at(-1)?.[1] === k - 1 ? runs.at(-1) : runs[runs.push([k, k]) - 1])[1] = k;
  return runs.map(([from, to]) => (from === to ? from : `${from} to ${to}`)).join(", ");
};

/** What is at its limit, in words. */
export function words_of(answer) {
  if (answer.verdict === "out of reach") return "From here the target is out of reach: no controls within the limits bring the state there.";
  if (answer.verdict === "undecided") return "This start is next to the edge of what is within reach: this page cannot decide on which side. The teacher can.";
  const { at, lambda } = answer, count = at.filter((each) => each !== 0).length;
  const sides = [["upper", 1], ["lower", -1]].map(([name, side]) => [name, listed(at, side)]).filter(([, which]) => which);
  const which = sides.map(([name, steps]) => `${steps} at the ${name}`).join("; ");
  const linear = count ? "Here the law is affine in the start until a control reaches or leaves its limit."
    : "Here the law is the one without limits, linear in the start, until a control reaches its limit.";
  const where = which && ` (${/^\d+ at the \w+$/.test(which) ? "step" : "steps"} ${which})`;
  return `${count || "None"} of ${at.length} controls ${count > 1 ? "are at their limit" : "is at its limit"}${where}; `
    + `λ = (${lambda.map((each) => said(each)).join(", ")}). ${linear}`;
}

export default { async render({ model, el }) {
  const about = model.get("about"), { box, points, system } = about, { dt, labels } = system, horizon = about.law.Q.length;
  const law = dual_from(about.law), piece_of = pieces(law), step = Program(system.step), edges = times(horizon + 1, dt);
  const starts = cells_of(box, points), { block: stands_for, ...order } = coarse_first(points, 24), names = labels.map(plain);
  const { get, set, follow, leave } = shared(model, () => redraw());
  follow("start", "target");

  let shown = null, wanted = null;
  const fill = filler({ ...order, together: 8, show: (map) => { shown = map; redraw(); },
    values_of: (target, cells) => piece_of(cells.map((cell) => starts[cell]), target) });

  const map = new Panel("the pieces, by start", ...labels.slice(0, 2), { square: true, tallest: 470 });
  const inputs = new Panel("the controls from this start", "time (s)", labels[2], { square: true });
  map.limits(...[0, 1].map((k) => [box[0][k], box[1][k]]));
  const words = (name) => () => place_in_words(get(name), names);
  for (const name of ["target", "start"]) {
    map.handle(name, `${name} on-map`, { get: () => get(name), set: (place) => set({ [name]: place }), words: words(name),
      step: [0, 1].map((k) => (box[1][k] - box[0][k]) / 100), box });
  }
  map.svg.addEventListener("click", (event) => {
    const frame = map.svg.getBoundingClientRect(), place = map.place(event.clientX - frame.left, event.clientY - frame.top);
    if (place.every((each, k) => each >= box[0][k] && each <= box[1][k])) set({ start: place });
  });
  const swatch = (style, text) => h("span", {}, h("i", { style: `background: ${style}` }), text);
  const rgb = (color) => `rgb(${color})`;
  const ramp = (sign) => `linear-gradient(90deg, ${[2, 10, 20].map((count) =>
    rgb(color_of(Array.from({ length: 20 }, (_, k) => (k < count ? sign : 0)))))})`;
  const unsure = swatch(rgb(UNDECIDED.color), "not decided by this page");
  map.element.append(h("div", { class: "trc-key" }, swatch(rgb(NONE), "none at its limit"),
    swatch(ramp(1), "the earliest at the upper limit, darker: more"), swatch(ramp(-1), "the earliest at the lower"),
    swatch("repeating-linear-gradient(135deg, #8b8f94 0 2px, #c9ccd0 2px 6px)", "out of reach"),
    unsure, swatch("#000", "edge of the piece of this start")));

  const sliders = ["start", "target"].flatMap((name) => [0, 1].map((k) => ({ name, k, ...slider(`${name} ${labels[k]}`, {
    min: box[0][k], max: box[1][k], step: "any", value: get(name)[k], words: (value) => said(value),
    act: (value) => set({ [name]: get(name).map((each, j) => (j === k ? value : each)) }) }) })));

  const paint = (mine) => {
    const { values, whole } = shown, piece = (i, j) => values[j * points + i] ?? values[stands_for[j * points + i]];
    map.paint(points, points, (i, j) => {
      const own = piece(i, j);
      if (whole && own === mine && own.at) {
        for (const [a, b] of [[i - 1, j], [i + 1, j], [i, j - 1], [i, j + 1]]) {
          if (a >= 0 && b >= 0 && a < points && b < points && piece(a, b) !== own) return [0, 0, 0];
        }
      }
      return own.color ?? ((i + j) % 6 < 2 ? [139, 143, 148] : [201, 204, 208]);
    });
  };
  let painted = [];
  const draw = () => {
    const x0 = get("start"), xT = get("target");
    if (String(wanted) !== String(xT)) fill.want(wanted = [...xT]);
    for (const { name, k, set: show } of sliders) show(get(name)[k]);
    const found = law(x0, xT), answer = found.controls && found, [mine] = piece_of([x0], xT);
    if (shown) {
      const now = [shown, shown.known, mine];
      if (now.some((each, i) => each !== painted[i])) paint(mine);
      painted = now;
      map.element.dataset.target = shown.question;
      map.element.dataset.whole = Boolean(shown.whole);
      map.heading.textContent = `the pieces, by start, for target [${shown.question.map((each) => said(each)).join(", ")}]`;
    }
    const states = answer ? rollout(step, x0, answer.controls, 1) : [];
    map.draw([{ kind: "line", look: "edge", x: column(states, 0), y: column(states, 1) },
      { kind: "line", look: "bright", x: column(states, 0), y: column(states, 1), name: "trajectory" },
      { kind: "dots", look: "start", name: "start", x: [], y: [] }, { kind: "cross", look: "", name: "target", x: [], y: [] }]);
    unsure.hidden = !shown?.values.includes(UNDECIDED);
    const count = new Set(shown?.whole ? shown.values.filter((each) => each.at) : []).size;
    const spoken = words_of(found);
    map.describe(`Pieces of the bounded law by start. ${spoken}`);

    const limits = [system.low[0], system.high[0]].map(Number).filter(Number.isFinite);
    const size = Math.max(0, ...limits.map(Math.abs)) || 1;
    const drawn = Math.max(size, ...(answer ? [...answer.controls].map(Math.abs) : []));
    const far = Math.max(drawn, Math.min(Math.max(0, ...(answer?.wanted ?? []).map(Math.abs)), 4 * size));
    const middles = edges.slice(0, horizon).map((each) => each + dt / 2);
    const held = answer ? [...answer.at.keys()].filter((k) => answer.at[k] !== 0) : [];
    inputs.limits([0, horizon * dt], [-1.12 * far, 1.12 * far]);
    inputs.draw([...limits.map((y) => ({ kind: "level", y, look: "limit", name: "limit" })),
      ...(answer ? [{ kind: "line", look: "pale", x: middles, y: answer.wanted, name: "Cᵀλ, before clipping" },
        { kind: "steps", look: "network", x: edges, y: answer.controls, name: "controls u" },
        { kind: "dots", look: "second", x: held.map((k) => middles[k]), y: held.map((k) => answer.controls[k]),
          name: held.length ? "at the limit" : "" }] : [])]);
    const ends = answer && [Math.min(...answer.controls), Math.max(...answer.controls)].map((each) => said(each));
    inputs.describe(answer ? `Controls between ${ends[0]} and ${ends[1]}; ${held.length} at a limit.`
      : `No controls: ${found.verdict}.`);
    return spoken + (shown?.whole ? ` The cells of the map fall into ${count} pieces.`
      : " The map is being computed, coarse cells first.");
  };
  const controls = h("div", { class: "trc-controls" }, group("problem", ...sliders.map((each) => each.element)));
  const { root, redraw } = frame(el, "pieces of the bounded law", draw, controls,
    h("div", { class: "trc-map-panels" }, map.element, inputs.element));
  root.classList.add("trc-long", "trc-longest");
  redraw();
  return leave;
} };
