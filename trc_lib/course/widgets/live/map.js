// The error map: how far from the target a network ends, over the two components of the start.

import { EPSILON } from "../../../web/recursion.js";
import { rollout } from "../../../web/systems.js";
import { asked, coarse_first, column, distance, filler, network_of, place_in_words, plain } from "./problem.js";
import { button, frame, group, h, Panel, player, reach, said, shared, slider } from "./stage.js";

const FOUR = 4; // problems at once

// Loops of their own: a shared one that is handed a function takes several times as long.
function sum(x, y) {
  const z = new Float64Array(x.length);
  for (let i = 0; i < z.length; i++) z[i] = x[i] + y[i];
  return z;
}

function silu(x) {
  const y = new Float64Array(x.length);
  for (let i = 0; i < y.length; i++) y[i] = x[i] / (1 + Math.exp(-x[i]));
  return y;
}

/** silu(gate) * value, of an array that holds the gates first. */
function gated(both) {
  const y = new Float64Array(both.length / 2);
  for (let i = 0; i < y.length; i++) y[i] = both[i] / (1 + Math.exp(-both[i])) * both[y.length + i];
  return y;
}

const each_of = (x) => [0, 1, 2, 3].map((p) => {
  const part = new Float64Array(x.length / FOUR);
  for (let j = 0; j < part.length; j++) part[j] = x[FOUR * j + p];
  return part;
});
const one_of = (parts) => {
  const x = new Float64Array(FOUR * parts[0].length);
  for (let j = 0, at = 0; j < parts[0].length; j++) for (let p = 0; p < FOUR; p++) x[at++] = parts[p][j];
  return x;
};

/** x -> weight x + bias for four problems, number j of problem p in place 4 j + p. Two rows at once. */
function linear({ data, shape: [rows, columns] }, bias) {
  const even = rows + rows % 2, weights = new Float32Array(even * columns);
  weights.set(data);
  return (x) => {
    const y = new Float64Array(FOUR * even);
    for (let i = 0; i < even; i += 2) {
      const upper = bias ? bias.data[i] : 0, lower = bias && i + 1 < rows ? bias.data[i + 1] : 0, to = FOUR * i;
      let a = upper, b = upper, c = upper, d = upper, e = lower, f = lower, g = lower, k = lower;
      for (let j = 0, p = i * columns, q = p + columns, at = 0; j < columns; j++, at += FOUR) {
        const v = weights[p + j], w = weights[q + j];
        const x0 = x[at], x1 = x[at + 1], x2 = x[at + 2], x3 = x[at + 3];
        a += v * x0; b += v * x1; c += v * x2; d += v * x3;
        e += w * x0; f += w * x1; g += w * x2; k += w * x3;
      }
      y[to] = a; y[to + 1] = b; y[to + 2] = c; y[to + 3] = d;
      y[to + 4] = e; y[to + 5] = f; y[to + 6] = g; y[to + 7] = k;
    }
    return y.subarray(0, FOUR * rows);
  };
}

function sequential(weights, name) {
  const numbers = Object.keys(weights).filter((each) => each.startsWith(`${name}.`)).map((each) => Number(each.split(".")[1]));
  const layers = [...new Set(numbers)].sort((a, b) => a - b).map((i) =>
    linear(weights[`${name}.${i}.weight`], weights[`${name}.${i}.bias`]));
  return (x) => layers.slice(1).reduce((y, layer) => layer(silu(y)), layers[0](x));
}

function rms_norm(x) {
  const y = new Float64Array(x.length), size = x.length / FOUR;
  for (let p = 0; p < FOUR; p++) {
    let squares = 0;
    for (let i = p; i < x.length; i += FOUR) squares += x[i] * x[i];
    const factor = 1 / Math.sqrt(squares / size + EPSILON);
    for (let i = p; i < x.length; i += FOUR) y[i] = x[i] * factor;
  }
  return y;
}

function block(weights, count) {
  const layers = Array.from({ length: count }, (_, i) => {
    const [gate_and_value, down] = ["gate_and_value", "down"].map((part) => linear(weights[`block.layers.${i}.${part}.weight`]));
    return (x) => down(gated(gate_and_value(x)));
  });
  return (x) => layers.reduce((y, layer) => rms_norm(sum(y, layer(y))), x);
}

/**
 * The recursion of web/recursion.js for four problems at once, in half the time: each weight is read once for all.
 * Returns a function of four [x0, xT] and a number of cycles: of each problem, the controls of each cycle.
 */
export function recursion_of_four(net) {
  const { weights, config: { L_cycles, block_layers, latent_dim } } = net;
  const [initial_generator, decoder] = ["initial_generator", "decoder"].map((name) => sequential(weights, name));
  const control_embedding = linear(weights["control_embedding.weight"], weights["control_embedding.bias"]);
  const error_weight = weights["error_embedding.weight"];
  const error_embedding = error_weight ? linear(error_weight) : () => new Float64Array(FOUR * latent_dim);
  const update = block(weights, block_layers), clamp = (controls) => one_of(each_of(controls).map((each) => net.clamp(each)));
  return (problems, H_cycles) => {
    const z_initial = one_of(problems.map(([x0, xT]) => net.encode(x0, xT)));
    let z_H = z_initial, z_L = new Float64Array(z_initial.length), controls = clamp(initial_generator(z_initial));
    const physical = () => each_of(controls).map((each) => net.to_physical(each)), history = [physical()];
    for (let cycle = 0; cycle < H_cycles; cycle++) {
      const told = history[cycle].map((u, p) => net.feedback(...problems[p], u));
      const x = sum(sum(z_initial, control_embedding(controls)), error_embedding(one_of(told.map(([signal]) => signal))));
      for (let l = 0; l < L_cycles; l++) z_L = update(sum(sum(z_L, z_H), x));
      z_H = update(sum(z_H, z_L));
      const correction = decoder(z_H);
      controls = clamp(controls.map((each, i) => each + told[i % FOUR][1] * correction[i]));
      history.push(physical());
    }
    return problems.map((_, p) => history.map((each) => each[p]));
  };
}

/** A function of starts, at most four, a target and a number of cycles: of each start the final error of each cycle. */
export function final_errors(net) {
  const refine = recursion_of_four(net), m = net.system.control_dim;
  return (starts, target, H_cycles) => {
    const xT = Float64Array.from(target);
    const filled = Array.from({ length: FOUR }, (_, p) => Float64Array.from(starts[p] ?? starts[0]));
    const cycles = refine(filled.map((x0) => [x0, xT]), H_cycles);
    return starts.map((x0, p) => cycles[p].map((u) => distance(rollout(net.step, x0, u, m).at(-1), xT)));
  };
}

/** The starts of a map: ``points`` a side over twice the box; of each whether it is in the box. */
export function grid_of([low, high], points) {
  const unit = Array.from({ length: points }, (_, i) => (4 * i) / (points - 1) - 2);
  const place = (k, i) => (high[k] + low[k]) / 2 + (high[k] - low[k]) / 2 * unit[i];
  const cells = Array.from({ length: points ** 2 }, (_, cell) => [cell % points, Math.floor(cell / points)]);
  return { starts: cells.map(([i, j]) => [place(0, i), place(1, j)]),
    inside: cells.map((at) => at.every((i) => Math.abs(unit[i]) <= 1)) };
}

/** The numbers of the cells with the largest errors, the worst first, of those in the box. */
export const worst_of = (errors, inside, count = 5) => [...inside.keys()].filter((cell) => inside[cell])
  .sort((a, b) => errors[b] - errors[a]).slice(0, count);

const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
  [138, 134, 120], [165, 156, 116], [195, 180, 105], [225, 204, 85], [254, 232, 56]];

/** The colour of an error: the scale is of logarithms, from a thousandth of ``success`` to ten times. */
export function color_of(error, success) {
  const level = (Math.log10(error / success) + 3) / 4, share = Number.isFinite(error) ? Math.min(Math.max(level, 0), 1) : 1;
  const at = share * (CIVIDIS.length - 1), i = Math.min(Math.floor(at), CIVIDIS.length - 2);
  return CIVIDIS[i].map((each, k) => Math.round(each + (at - i) * (CIVIDIS[i + 1][k] - each)));
}

export default { async render({ model, el }) {
  const about = model.get("about"), { box, points, success, H_cycles, trained } = about;
  const net = await network_of(model, el);
  if (!net) return null;
  const { system } = net, { state_dim: n, control_dim: m } = system;
  const errors_of = final_errors(net), { starts, inside } = grid_of(box, points);
  const { block: stands_for, ...order } = coarse_first(points, 5), names = system.labels.slice(0, n).map(plain);
  const half = [0, 1].map((k) => (starts.at(-1)[k] - starts[0][k]) / (points - 1) / 2);
  const { get, set, follow, leave } = shared(model, () => redraw());
  follow("target", "H_cycle");

  let shown = null, wanted = null, probe = Math.floor(points ** 2 / 2), hovered = null, opened = "";
  const fill = filler({ ...order, together: FOUR, show: (map) => { shown = map; redraw(); },
    values_of: ({ target, depth }, cells) => errors_of(cells.map((cell) => starts[cell]), target, depth) });
  const ask = () => {
    const target = [...get("target")], depth = get("H_cycle");
    if (wanted && String(wanted.target) === String(target) && wanted.depth >= depth) return;
    fill.want(wanted = { target, depth });
  };

  let path_of = null; // the way of the start that is looked at, and how far from the target it ends
  const map = new Panel("final error by start: click a start, drag the target", ...system.labels.slice(0, n).map((label) => `start ${label}`),
    { square: true, tallest: 470 });
  const path = new Panel("from the start in the square", ...system.labels.slice(0, n), { square: true });
  map.limits(...[0, 1].map((k) => [starts[0][k] - half[k], starts.at(-1)[k] + half[k]]));
  const cell_at = (place) => {
    const [i, j] = place.map((each, k) => Math.min(Math.max(Math.round((each - starts[0][k]) / (2 * half[k])), 0), points - 1));
    return j * points + i;
  };
  const words = (state) => place_in_words(state, names);
  const look_at = (cell) => {
    probe = cell;
    hovered = null;
    redraw();
  };
  map.handle("start that is looked at", "probe", { get: () => starts[probe], set: (place) => look_at(cell_at(place)),
    words: () => words(starts[probe]) + (path_of ? `, error ${said(path_of.miss)}` : ""), step: half.map((each) => 2 * each),
    box: [starts[0], starts.at(-1)] });
  map.handle("target", "target on-map", { get: () => get("target"), set: (target) => set({ target }),
    words: () => words(get("target")), step: [0, 1].map((k) => (box[1][k] - box[0][k]) / 100), box });
  const pointed = (event) => {
    const frame = map.svg.getBoundingClientRect(), at = map.place(event.clientX - frame.left, event.clientY - frame.top);
    return [map.x, map.y].every(([low, high], k) => at[k] >= low && at[k] <= high) ? cell_at(at) : null;
  };
  map.svg.addEventListener("pointermove", (event) => { if (hovered !== (hovered = pointed(event))) redraw(); });
  map.svg.addEventListener("pointerleave", () => { hovered = null; redraw(); });
  map.svg.addEventListener("click", (event) => look_at(pointed(event) ?? probe));

  const ramp = h("div", { class: "trc-ramp" });
  const stops = Array.from({ length: 17 }, (_, i) => `rgb(${color_of(success * 10 ** (i / 4 - 3), success)})`);
  ramp.append(h("i", { style: `background: linear-gradient(90deg, ${stops})` }), h("div", {}, ...[-3, -2, -1, 0, 1].map((power) => {
    const value = said(success * 10 ** power);
    const text = { "-3": `≤ ${value}`, 0: `${value}: success below`, 1: `≥ ${value}` }[power];
    return h("span", { style: `left: ${100 * (power + 3) / 4}%` }, text ?? value);
  })),
  "|x_N − x_T|, how far from the target the network ends");
  const note = h("p", { class: "trc-note" }); // below the map: above it, a longer text would push the map away
  map.element.append(ramp, note);

  const cycle = slider("H cycle", { min: 0, max: H_cycles, step: 1, value: get("H_cycle"),
    act: (value) => set({ H_cycle: value }),
    words: (value) => (value === 0 ? "0, first proposal" : value > trained ? `${value}, beyond H_cycles` : String(value)) });
  const play = player(() => H_cycles, () => get("H_cycle"), (value) => set({ H_cycle: value }));
  const open = async (start) => {
    const { target } = shown.question;
    opened = " Opening …";
    redraw();
    try {
      await asked(model, { ask: "open", start, target });
      opened = " It is open in the microscope.";
      const scopes = [...document.querySelectorAll('section[aria-label="refinement microscope"]')];
      // The last one above this map, as in a notebook.
      const before = scopes.filter((each) => each.compareDocumentPosition(root) & Node.DOCUMENT_POSITION_FOLLOWING);
      (before.at(-1) ?? scopes[0])?.scrollIntoView({ block: "start" });
    } catch {
      opened = " Opening needs the running notebook: run its cells again.";
    }
    redraw();
  };
  const open_worst = button("open the worst in the microscope", () =>
    open(starts[worst_of(column(shown.values, cycle_of()), inside, 1)[0]]));
  const open_probe = button("open the start that is looked at", () => open(starts[probe]));
  const cycle_of = () => Math.min(get("H_cycle"), shown.question.depth);
  const steered = (start, target, cycle) => {
    const key = String([start, target, cycle]);
    if (path_of?.key !== key) {
      const x0 = Float64Array.from(start), [history] = net.recursive_reasoning(x0, Float64Array.from(target), cycle);
      const states = rollout(net.step, x0, net.to_physical(history[cycle]), m);
      path_of = { key, states, miss: distance(states.at(-1), target) };
    }
    return path_of;
  };

  const line = (kind, look, x, y, name) => [{ kind, look: `edge ${look}`, x, y }, { kind, look: `bright ${look}`, x, y, name }];
  let about_last = "";
  const draw = () => {
    ask();
    cycle.set(get("H_cycle"));
    open_worst.disabled = !shown?.whole;
    open_probe.disabled = !shown;
    if (!shown) return "Computing the map …";
    const { question: { target }, values, whole } = shown, at = cycle_of();
    const place = `[${target.map((each) => said(each)).join(", ")}]`;
    if (about_last !== (about_last = String([target, at]))) opened = opened.startsWith(" Opening …") ? opened : "";
    const errors = values.length && Array.from(stands_for, (block, cell) => (values[cell] ?? values[block])[at]);
    const worst = whole ? worst_of(errors, inside) : [];
    const x0 = starts[probe], { states, miss } = steered(x0, target, at);
    map.paint(points, points, (i, j) => color_of(errors[j * points + i], success));
    const [[left, bottom], [right, top]] = box;
    map.draw([...line("line", "dashed", [left, right, right, left, left], [bottom, bottom, top, top, bottom], "training box"),
      ...line("cross", "", [target[0]], [target[1]], "target"),
      ...line("ring", "", ...[0, 1].map((k) => worst.map((cell) => starts[cell][k])), "the five worst in the box")]);
    map.heading.textContent = `final error by start, target ${place}: click a start, drag the target`;
    map.element.dataset.target = target;
    map.element.dataset.whole = whole;
    const most = (where) => said(Math.max(...errors.filter((_, cell) => inside[cell] === where)));
    const found = whole ? `largest error in the box ${most(true)}, outside ${most(false)}`
      : "the map is being computed, coarse cells first";
    map.describe(`Final error by start for target ${place}, after cycle ${at}: ${found}.`);

    const ends = [0, 1].map((k) => reach(column(states, k).concat(target[k]), [box[0][k], box[1][k]]));
    path.limits(...ends);
    path.draw([{ kind: "line", look: "network", name: "network", x: column(states, 0), y: column(states, 1) },
      { kind: "dots", look: "network", name: "its end", x: [states.at(-1)[0]], y: [states.at(-1)[1]] },
      { kind: "cross", look: "", name: "target", x: [target[0]], y: [target[1]] },
      { kind: "ring", look: "start", name: "start", x: [x0[0]], y: [x0[1]] }]);
    path.describe(`From ${words(starts[probe])} the network ends ${said(miss)} from the target.`);
    const cell = hovered ?? probe, where = inside[cell] ? "in the box" : "outside the box";
    const its = cell === probe ? miss : values[cell]?.[at];
    note.textContent = `Start ${words(starts[cell])}, ${where}: ${its === undefined ? "not computed yet" : `error ${said(its)}`}.`;
    return `Target ${place}, ${at ? `after cycle ${at}` : "first proposal"}: ${found}.${opened}`;
  };
  const controls = h("div", { class: "trc-controls" }, group("cycles", play, cycle.element),
    ...(about.scope ? [group("microscope", open_worst, open_probe)] : []));
  const { root, redraw } = frame(el, "error map", draw, controls,
    h("div", { class: "trc-map-panels" }, map.element, path.element));
  root.classList.add("trc-long");
  redraw();
  return leave;
} };
