// The phase plane: where a network, the optimum and no push at all lead from any start; the target is the origin.

import { unpacked } from "../../../web/files.js";
import { rollout } from "../../../web/systems.js";
import { asked, column, distance, earlier, few_ends, law_from, network_of, place_in_words, plain, rows_of, times } from "./problem.js";
import { button, choice, frame, group, h, Panel, player, reach, said, shared, slider } from "./stage.js";

export const MODES = ["on the grid, with the optimum", "anywhere, optimum if the notebook runs"];

/** The cost that Python's ``about.cost`` describes, a function of states, controls and target; null if it gives none. */
export function cost_of(about, control_dim) {
  if (!about) return null;
  const square = (W, x) => W.reduce((sum, row, i) => sum + x[i] * row.reduce((part, w, j) => part + w * x[j], 0), 0);
  if (about.kind === "energy") return (states, controls) => controls.reduce((sum, each) => sum + each * each, 0);
  return (states, controls, xT) => states.reduce((sum, x, k) => {
    const off = x.map((each, i) => each - xT[i]);
    if (k === states.length - 1) return sum + square(about.Q_final, off);
    return sum + square(about.Q, off) + square(about.R, controls.subarray(k * control_dim, (k + 1) * control_dim));
  }, 0);
}

/** The starts of the grid along each side, and of a start the number of the nearest, which may be the start itself. */
export function grid_of({ box: [low, high], points }) {
  const share = (i) => i / (points - 1);
  const sides = low.map((end, k) => Array.from({ length: points }, (_, i) => end * (1 - share(i)) + high[k] * share(i)));
  const nearest = (start) => {
    const [i, j] = start.map((each, k) =>
      Math.min(Math.max(Math.round((each - low[k]) / (high[k] - low[k]) * (points - 1)), 0), points - 1));
    return { index: i * points + j, start: [sides[0][i], sides[1][j]] };
  };
  return { nearest, step: low.map((end, k) => (high[k] - end) / (points - 1)) };
}

/**
 * All that is shown of a start: of each cycle, of the optimum (if it is known) and of no push at all. ``known_least``
 * is the exact cost of an optimum whose controls are kept rounded.
 */
export function runs(net, cost, start, H_cycles, optimum, known_least = null) {
  const x0 = Float64Array.from(start), xT = new Float64Array(start.length), m = net.system.control_dim;
  const [history] = net.recursive_reasoning(x0, xT, H_cycles), controls = history.map((each) => net.to_physical(each));
  const lead = (u) => rollout(net.step, x0, u, m), states = controls.map(lead), best = optimum && lead(optimum);
  const costs = cost && controls.map((u, h) => cost(states[h], u, xT)), least = cost && optimum && (known_least ?? cost(best, optimum, xT));
  const costly = least > 1e-9 * Math.max(...(costs ?? []).filter(Number.isFinite)); // not so at rest, with nothing to compare
  return { controls, states, errors: states.map((each) => distance(each.at(-1), xT)), optimum, best,
    free: lead(new Float64Array(controls[0].length)),
    gaps: costly ? costs.map((each) => each / least - 1) : null };
}

export default { async render({ model, el }) {
  const about = model.get("about"), { box, view, cycle: round, H_cycles, trained } = about;
  const net = await network_of(model, el);
  if (!net) return null;
  const { system } = net, { horizon } = net.config, { dt, labels } = system;
  const cost = cost_of(about.cost, 1), law = law_from(about.law), grid = grid_of(about), edges = times(horizon + 1, dt);
  const { buffer, byteOffset, byteLength } = model.get("optima");
  const kept = about.law ? null : await unpacked(new Uint8Array(buffer, byteOffset, byteLength));
  const [least] = about.law ? [] : rows_of(model.get("least"), about.points ** 2);
  const names = labels.map(plain), answers = new Map(); // starts' optima that the kernel gave
  const { get, set, follow, leave } = shared(model, () => redraw());
  follow("start", "H_cycle");
  const on_grid = (start) => grid.nearest(start).start.every((each, k) => Math.abs(each - start[k]) < 1e-9 * grid.step[k]);
  let mode = law || on_grid(get("start")) ? MODES[0] : MODES[1];

  const optimum_of = (start) => {
    if (law) return law(start, [0, 0]);
    const { index } = grid.nearest(start), own = on_grid(start) && kept.subarray(index * horizon, (index + 1) * horizon);
    if (own) return Number.isFinite(own[0]) ? Float64Array.from(own) : null;
    const key = String(start);
    if (!answers.has(key)) {
      clearTimeout(answers.later);
      answers.later = setTimeout(() => {
        answers.set(key, null);
        asked(model, { ask: "optimum", start }).then(({ controls }) => {
          answers.set(key, controls && Float64Array.from(controls));
          redraw();
        }, () => answers.delete(key));
      }, 250);
    }
    return answers.get(key) ?? null;
  };
  let seen = {};
  const see = () => {
    const depth = plane.held ? Math.max(trained, get("H_cycle")) : H_cycles; // fast while it is dragged, all after that
    const start = get("start"), optimum = optimum_of(start), known = !law && on_grid(start) ? least[grid.nearest(start).index] : null,
      key = String([start, Boolean(optimum), depth]);
    if (seen.key !== key) seen = { key, ...runs(net, cost, start, depth, optimum, known) };
    return seen;
  };

  const plane = new Panel("where it goes", ...labels.slice(0, 2), { square: true, tallest: 420, glides: true });
  const inputs = new Panel("what pushes it", "time (s)", labels[2], { square: true, glides: true });
  const gap = new Panel("cost over the optimum", "cycle", "share of the optimum's", { log: true, square: true });
  const words = () => place_in_words(get("start"), names);
  const put = (place) => set({ start: !law && mode === MODES[0] ? grid.nearest(place).start : place });
  const step = [0, 0]; // of an arrow key
  const steps = () => {
    for (const k of [0, 1]) step[k] = !law && mode === MODES[0] ? grid.step[k] : (box[1][k] - box[0][k]) / 100;
  };
  steps();
  plane.handle("start", "start", { get: () => get("start"), set: put, words, step, box });
  const sliders = [0, 1].map((k) => slider(`start ${labels[k]}`, {
    min: box[0][k], max: box[1][k], step: "any", value: get("start")[k], words: (value) => said(value),
    act: (value) => put(get("start").map((each, j) => (j === k ? value : each))) }));
  const modes = choice("start", MODES, mode, (value) => {
    mode = value;
    steps();
    put(get("start"));
  });
  const cycle = slider("H cycle", { min: 0, max: H_cycles, step: 1, value: get("H_cycle"),
    act: (value) => set({ H_cycle: value }),
    words: (value) => (value === 0 ? "0, first proposal" : value > trained ? `${value}, beyond H_cycles` : String(value)) });
  const play = player(() => H_cycles, () => get("H_cycle"), (value) => set({ H_cycle: value }));

  const draw = () => {
    const { controls, states, errors, optimum, best, free, gaps } = see(), at = get("H_cycle"), start = get("start");
    cycle.set(at);
    sliders.forEach((each, k) => { // a key goes to the next start of the grid
      each.input.step = !law && mode === MODES[0] ? grid.step[k] : "any";
      each.set(start[k]);
    });
    const ends = [0, 1].map((k) => reach(column(states[at].concat(best ?? []), k), [view[0][k], view[1][k]]));
    plane.limits(...ends);
    const near = ([x, y]) => [x, y].every((each, k) => Math.abs(each - ends[k][0]) < 20 * (ends[k][1] - ends[k][0]));
    const run = (rows, look, name) => {
      const shown = rows.map((row) => (near(row) ? row : [NaN, NaN]));
      return { kind: "line", look, name, x: column(shown, 0), y: column(shown, 1) };
    };
    const cycle_line = { kind: "line", look: "round", name: "limit cycle", x: column(round, 0), y: column(round, 1) };
    plane.draw([...(round.length ? [cycle_line] : []),
      run(free, "pale", "no push at all"), ...earlier(states, at, run),
      run(states[at], "network", "network"), run(best ?? [], "optimum", "optimum"),
      { kind: "cross", look: "", name: "rest", x: [0], y: [0] }, { kind: "dots", look: "start", name: "start", x: [], y: [] }]);
    plane.describe(`From ${words()} the network after cycle ${at} ends ${said(errors[at])} from rest.`);

    const limits = [system.low[0], system.high[0]].map(Number).filter(Number.isFinite);
    inputs.limits([0, horizon * dt], few_ends([...limits, ...controls[at], ...(optimum ?? [])]));
    inputs.draw([...limits.map((y) => ({ kind: "level", y, look: "limit", name: "limit" })),
      ...earlier(controls, at, (u, look, name) => ({ kind: "steps", x: edges, y: u, look, name })),
      { kind: "steps", x: edges, y: controls[at], look: "network", name: "network" },
      ...(optimum ? [{ kind: "steps", x: edges, y: optimum, look: "optimum", name: "optimum" }] : [])]);
    const [least, most] = [Math.min(...controls[at]), Math.max(...controls[at])];
    inputs.describe(`Controls after cycle ${at}, between ${said(least)} and ${said(most)}.`);

    gap.element.style.visibility = gaps ? "" : "hidden"; // its place stays, so that nothing moves under the finger
    if (gaps) {
      const levels = gaps.filter((each) => each > 0 && Number.isFinite(each)).map(Math.log10);
      const top = Math.ceil(Math.max(...levels, -3));
      const cycles = times(H_cycles + 1, 1), above = gaps.map((each) => (each > 0 ? each : NaN));
      gap.limits([-0.3, H_cycles + 0.3], [Math.min(Math.max(Math.floor(Math.min(...levels, top - 1)), top - 9), top - 2), top]);
      gap.draw([{ kind: "band", look: "", name: "up to its H_cycles", x: [-0.3, trained + 0.2] },
        { kind: "line", look: "network", x: cycles, y: above },
        { kind: "dots", look: "network", name: "cost / optimum's − 1", x: cycles.filter((_, i) => above[i] > 0),
          y: above.filter((each) => each > 0) },
        { kind: "rule", look: "now", x: at }]);
      gap.describe(`Cost over the optimum by cycle: ${gaps.map((each, i) => `${i}: ${said(100 * each)} %`).join(", ")}.`);
    }
    const when = at === 0 ? "first proposal" : `after cycle ${at}${at > trained ? `, beyond H_cycles = ${trained}` : ""}`;
    const more = gaps && `${said(Math.abs(100 * gaps[at]))} % ${gaps[at] < 0 ? "less" : "more"} than the optimum`;
    const compared = more ? `costs ${more}` : cost && optimum ? "has no optimum to compare with, at rest it costs nothing"
      : law || on_grid(start) ? "has no optimum to compare with"
        : "has no optimum to compare with: off the grid only a running notebook knows it";
    return `From ${words()}, ${when}: the network ${compared}, and ends ${said(errors[at])} from rest.`;
  };
  const controls = h("div", { class: "trc-controls" },
    group("cycles", play, button("‹ back", () => set({ H_cycle: Math.max(get("H_cycle") - 1, 0) })),
      button("next ›", () => set({ H_cycle: Math.min(get("H_cycle") + 1, H_cycles) })), cycle.element),
    group("problem", ...(law ? [] : [modes.element]), ...sliders.map((each) => each.element)));
  const { root, redraw } = frame(el, "phase plane", draw, controls,
    h("div", { class: "trc-panels" }, plane.element, inputs.element, gap.element));
  root.classList.add("trc-long");
  redraw();
  return leave;
} };
