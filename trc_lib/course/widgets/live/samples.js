// The samples of a dataset: one with its optimum, and where it lies among the others.

import { column, place_in_words, plain, rows_of, times } from "./problem.js";
import { choice, frame, group, h, Panel, said, shared, slider } from "./stage.js";

export const ORDERS = ["cheapest first", "costliest first", "as stored"];

/** The samples in the bytes that Python's `DatasetBrowser` sends, by index. */
export function samples_of({ state_dim: n, control_dim: m, horizon }, bytes) {
  const ends = [3, 3 + n, 3 + n + horizon * m, 3 + n + horizon * m + (horizon + 1) * n];
  const samples = new Map();
  for (const row of rows_of(bytes, ends[3])) {
    const [target, controls, states] = [0, 1, 2].map((part) => row.subarray(ends[part], ends[part + 1]));
    samples.set(row[0], { sample: row[0], rank: row[1], cost: row[2], target, controls, start: states.subarray(0, n),
      states: Array.from({ length: horizon + 1 }, (_, k) => states.subarray(k * n, (k + 1) * n)) });
  }
  return samples;
}

/** Samples in one of the `ORDERS`. */
export function ordered(samples, order) {
  const by = { "as stored": (each) => each.sample, "cheapest first": (each) => each.rank,
    "costliest first": (each) => -each.rank }[order];
  return [...samples].sort((a, b) => by(a) - by(b));
}

/** The lowest and the highest finite value; -1 and 1 if there is none. */
function range(values) {
  let low = Infinity, high = -Infinity;
  for (const each of values) if (Number.isFinite(each)) [low, high] = [Math.min(low, each), Math.max(high, each)];
  return low <= high ? [low, high] : [-1, 1];
}

/** The ends of an axis that holds ``values``, with a margin. */
function around(values) {
  const [low, high] = range(values), margin = 0.06 * (high - low) || Math.abs(high) || 1;
  return [low - margin, high + margin];
}

/**
 * The ends of an axis for ``values``: 1/100, 3/100, 1/10, 3/10 or all of what ``all`` needs, so that it seldom changes
 * and a small sample is seen. Around zero, or around the middle of what is far from it.
 */
export function ends_among(values, all) {
  const [low, high] = range([...all, ...values]), size = Math.max(Math.abs(low), Math.abs(high));
  const middle = low === high || size < 1.5 * (high - low) ? 0 : (low + high) / 2;
  const far = (numbers) => Math.max(0, ...range(numbers).map((each) => Math.abs(each - middle)));
  const whole = far([low, high]) || 1, half = whole * ([0.01, 0.03, 0.1, 0.3].find((each) => each * whole >= far(values)) ?? 1);
  const [down, up] = [middle === 0 && low >= 0 && high > 0 ? 0.06 : 1.06, middle === 0 && high <= 0 && low < 0 ? 0.06 : 1.06];
  return [middle - down * half, middle + up * half];
}

/** The nearest of places ``[x, y]`` to one, as an index and its distance; ``accepted(dx, dy)`` says which count. */
export function nearest(places, [x, y], accepted = () => true) {
  let best = [-1, Infinity];
  places.forEach(([px, py], i) => {
    const far = Math.hypot(px - x, py - y);
    if (far < best[1] && accepted(px - x, py - y)) best = [i, far];
  });
  return best;
}

/** What a sample is, in words. */
export function words({ what, unit, count }, { sample, cost, rank }) {
  return `Sample ${sample}: least ${what} ${said(cost)}${unit && ` ${unit}`}, number ${rank + 1} of ${count} from the cheapest.`;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const NEAR = 28; // pixels from a dot that still count as on it

export default { render({ model, el }) {
  const about = model.get("about"), { state_dim: n, control_dim: m, horizon, dt, labels, shown, count } = about;
  const { get, set, follow, leave } = shared(model, () => redraw());
  follow("sample", "order", "extra");
  const offered = samples_of(about, model.get("samples")), list = [...offered.values()], rows = new Map();
  const in_order = (order) => rows.get(order) ?? rows.set(order, ordered(list, order)).get(order);
  const edges = times(horizon + 1, dt), names = labels.map(plain);
  const limits = [about.low, about.high].map((each) => each.map(Number));
  let last = list[0];
  const current = () => { // one that is not offered is sent when it is chosen, and may be on its way
    const sample = get("sample"), bytes = get("extra");
    last = offered.get(sample) ?? (bytes?.byteLength ? samples_of(about, bytes).get(sample) : null) ?? last;
    return last;
  };

  const size = { height: m + n > 3 ? 190 : 250, left: 64 };
  const inputs = labels.slice(n).map((label, i) => new Panel(m > 1 ? names[n + i][0] : "control", "time (s)", label, size));
  const states = labels.slice(0, n).map((label, i) => new Panel(names[i][0], "time (s)", label, size));
  const phase = n > 1 ? new Panel("phase plane", ...shown.map((i) => labels[i]), size) : null;
  const sides = n > 1 ? shown.map((i) => `start ${labels[i]}`) : [`target ${labels[0]}`, `start ${labels[0]}`];
  const cloud = new Panel("all starts: click one", ...sides, size);
  const place_of = (each) => (n > 1 ? shown.map((i) => each.start[i]) : [each.target[0], each.start[0]]);
  const pixels = ([x, y]) => [cloud.px(x), cloud.py(y)], all_pixels = () => list.map((each) => pixels(place_of(each)));
  const pick = (each) => each && set({ sample: each.sample });
  const cloud_ends = [0, 1].map((i) => around(list.map((each) => place_of(each)[i])));

  cloud.area.append(h("div", { class: "trc-pick" }));
  cloud.area.addEventListener("click", (event) => {
    if (event.detail === 0) return; // a key
    const corner = cloud.svg.getBoundingClientRect();
    const [i, far] = nearest(all_pixels(), [event.clientX - corner.left, event.clientY - corner.top]);
    if (far <= NEAR) pick(list[i]);
  });
  const ring = cloud.handle("start of the sample", "chosen", {
    get: () => place_of(current()), set: (place) => pick(list[nearest(all_pixels(), pixels(place))[0]]), step: [0, 0],
    words: () => place_of(current()).map((value) => said(value)).join(", "),
    box: [[-Infinity, -Infinity], [Infinity, Infinity]] });
  ring.addEventListener("keydown", (event) => { // to the next dot that way, not by a step of an axis
    const way = ARROWS[event.key];
    if (!way) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const ahead = (dx, dy) => dx * way[0] + dy * way[1] > Math.abs(dx * way[1]) + Math.abs(dy * way[0]) + 0.5;
    pick(list[nearest(all_pixels(), pixels(place_of(current())), ahead)[0]]);
  }, true);

  const order = choice("order", ORDERS, get("order"), (value) => set({ order: value }));
  const where = (each) => { // a sample that is not offered is between two places
    const row = in_order(get("order")), found = row.findIndex(({ sample }) => sample === each.sample);
    return found >= 0 ? found : ordered([...row, each], get("order")).indexOf(each) - 0.5;
  };
  const place = slider("place", { min: 0, max: list.length - 1, step: 1, value: 0,
    words: (value) => (Number.isInteger(value) ? `${value + 1} of ${list.length}` : `none of the ${list.length} offered`),
    act: (value) => pick(in_order(get("order"))[value]) });

  const few = list.length < count ? [h("span", { class: "trc-group-name" },
    `offered: ${list.length} of the ${count}, evenly spaced from cheapest to costliest; `
    + "any other from Python: browser.sample = 17")] : [];

  const input = (each, i) => Array.from({ length: horizon }, (_, k) => each.controls[k * m + i]);
  const all_inputs = inputs.map((_, i) => [...list.flatMap((each) => input(each, i)), ...limits.map((each) => each[i])]);
  const all_states = states.map((_, i) => list.flatMap((each) => [...column(each.states, i), each.target[i]]));

  const draw = () => {
    const now = current();
    order.set(get("order"));
    place.set(where(now));
    for (let i = 0; i < m; i++) {
      const u = input(now, i), ends = ends_among(u, all_inputs[i]);
      const bounds = limits.map((each) => each[i]).filter((each) => each >= ends[0] && each <= ends[1]);
      inputs[i].limits([0, horizon * dt], ends);
      inputs[i].draw([...bounds.map((y) => ({ kind: "level", y, look: "limit", name: i ? "" : "limit" })),
        { kind: "steps", look: "network", name: i ? "" : "optimum", x: edges, y: u }]);
      inputs[i].describe(`${labels[n + i]}: between ${said(Math.min(...u))} and ${said(Math.max(...u))}.`);
    }
    for (let i = 0; i < n; i++) {
      const path = column(now.states, i), ends = ends_among([...path, now.target[i]], all_states[i]);
      states[i].limits([0, 1.04 * horizon * dt], ends);
      states[i].draw([{ kind: "line", look: "network", x: edges, y: path },
        { kind: "dots", look: "start", x: [0], y: [path[0]], name: i ? "" : "start" },
        { kind: "cross", look: "", x: [horizon * dt], y: [now.target[i]], name: i ? "" : "target" }]);
      states[i].describe(`${labels[i]}: from ${said(path[0])} to ${said(path[horizon])}; target ${said(now.target[i])}.`);
    }
    if (phase) {
      phase.limits(...shown.map((i) => ends_among([...column(now.states, i), now.target[i]], all_states[i])));
      phase.draw([{ kind: "line", look: "network", x: column(now.states, shown[0]), y: column(now.states, shown[1]) },
        { kind: "dots", look: "start", name: "start", x: [now.start[shown[0]]], y: [now.start[shown[1]]] },
        { kind: "cross", look: "", name: "target", x: [now.target[shown[0]]], y: [now.target[shown[1]]] }]);
      const said_of = (state) => place_in_words(shown.map((i) => state[i]), shown.map((i) => names[i]));
      const [from, to] = [now.start, now.target].map(said_of);
      phase.describe(`Trajectory from start (${from}) to target (${to}).`);
    }
    const places = list.map(place_of);
    cloud.limits(...cloud_ends.map((ends, i) => range([...ends, place_of(now)[i]])));
    cloud.draw([{ kind: "specks", look: "", name: "a sample", x: column(places, 0), y: column(places, 1) },
      { kind: "ring", look: "start", name: "this one", x: [place_of(now)[0]], y: [place_of(now)[1]] }]);
    cloud.describe(`Where this sample's start lies among ${list.length} samples.`);

    return words(about, now);
  };

  const { root, redraw } = frame(el, "samples of a dataset", draw,
    h("div", { class: "trc-controls" }, group("sample", order.element, place.element, ...few)),
    h("div", { class: "trc-panels trc-rows" }, cloud.element, ...(phase ? [phase.element] : []),
      ...[...inputs, ...states].map((each) => each.element)));
  root.prepend(root.querySelector(".trc-says"));
  redraw();
  return leave;
} };
