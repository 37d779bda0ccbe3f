// The time machine: the network as it was after each epoch of its training, cycle by cycle.

import { Program, rollout } from "../../../web/systems.js";
import { column, distance, earlier, few_ends, place_in_words, plain, rows_of, times } from "./problem.js";
import { button, frame, group, h, Panel, player, reach, said, shared, slider } from "./stage.js";

/** The number of the kept start that is nearest to a place, in units of the box. */
export function nearest(starts, place, size) {
  const far = starts.map((each) => distance(each.map((x, i) => x / size[i]), place.map((x, i) => x / size[i])));
  return far.indexOf(Math.min(...far));
}

export default { render({ model, el }) {
  const about = model.get("about"), { epochs, cycles, shown, box, horizon, system } = about;
  const { state_dim: n, control_dim: m, dt } = system, step = Program(system.step);
  const in_plane = shown.length === 2, edges = times(horizon + 1, dt), names = system.labels.map(plain);
  const size = box[1].map((each, i) => each - box[0][i]);
  const { get, set, follow, leave } = shared(model, () => redraw());
  follow("start", "target", "epoch", "H_cycle", "controls", "optima");

  let seen = {};
  const see = () => { // all epochs and cycles of one start
    const starts = about.starts, kept = nearest(starts, get("start"), size), xT = get("target");
    if (seen.controls === get("controls") && seen.kept === kept) return seen;
    const rows = rows_of(get("controls"), horizon * m, Float32Array), best = rows_of(get("optima"), horizon * m)[kept];
    const runs = epochs.map((_, e) => Array.from({ length: cycles + 1 }, (_, c) => {
      const u = rows[(e * (cycles + 1) + c) * starts.length + kept], states = rollout(step, starts[kept], u, m);
      return { u, states, error: distance(states[horizon], xT) };
    }));
    const optimum = best && Number.isFinite(best[0]) ? { u: best, states: rollout(step, starts[kept], best, m) } : null;
    seen = { controls: get("controls"), kept, start: starts[kept], target: xT, runs, optimum };
    return seen;
  };

  const title = in_plane ? "where the controls lead: drag the start" : "where the controls lead";
  const phase = in_plane ? new Panel(title, ...shown.map((i) => system.labels[i]), { square: true, glides: true }) : new Panel(title, "time (s)", system.labels[0]);
  const inputs = Array.from({ length: m }, (_, i) => new Panel(i ? "" : "the controls", "time (s)", system.labels[n + i],
    { glides: true, ...(m > 1 ? { height: 170 } : { square: true }) }));
  const history = new Panel("final error in the course of training", "epoch (not to scale)", "final error", { log: true, square: true, xnames: epochs.map(String) });
  if (in_plane) {
    phase.handle("start", "start", { get: () => shown.map((i) => see().start[i]), step: about.steps, box: box.map((ends) => shown.map((i) => ends[i])),
      set: (place) => set({ start: about.starts[nearest(about.starts, get("start").map((each, i) => (shown.includes(i) ? place[shown.indexOf(i)] : each)), size)] }),
      words: () => place_in_words(shown.map((i) => see().start[i]), shown.map((i) => names[i])) });
  }
  const when = slider("after epoch", { min: 0, max: epochs.length - 1, step: 1, value: 0, words: (i) => String(epochs[i]), act: (i) => set({ epoch: epochs[i] }) });
  const cycle = slider("H cycle", { min: 0, max: cycles, step: 1, value: get("H_cycle"), act: (value) => set({ H_cycle: value }),
    words: (value) => (value ? String(value) : "0, first proposal") });
  const number = () => Math.max(epochs.indexOf(get("epoch")), 0);
  const play = player(() => epochs.length - 1, number, (i) => set({ epoch: epochs[i] }));
  const from = slider("start", { min: 0, max: about.starts.length - 1, step: 1, value: 0, words: (i) => `${Number(i) + 1} of ${about.starts.length}`, act: (i) => set({ start: about.starts[i] }) });

  const draw = () => {
    const { runs, optimum, kept, target: xT } = see(), at = number(), c = get("H_cycle"), { u, states, error } = runs[at][c];
    when.set(at);
    cycle.set(c);
    from.set(kept);
    const run = (each, look, name) => ({ kind: "line", look, name, x: in_plane ? column(each.states, shown[0]) : edges, y: column(each.states, shown[in_plane ? 1 : 0]) });
    const all = runs.flat().concat(optimum ?? []), far = all.flatMap((each) => each.states).concat([xT]);
    const ends = (in_plane ? shown : [0]).map((i) => reach(column(far, i), [box[0][i], box[1][i]]));
    phase.limits(...(in_plane ? ends : [[0, 1.03 * horizon * dt], ends[0]]));
    const last = in_plane ? shown : [null, 0];
    phase.draw([...(in_plane ? [{ kind: "specks", look: "", name: "a start", x: column(about.starts, shown[0]), y: column(about.starts, shown[1]) }] : []),
      ...earlier(runs[at], c, run), run(runs[at][c], "network", "network"),
      ...(optimum ? [run(optimum, "optimum", "optimum")] : []),
      { kind: "dots", look: "network", x: [in_plane ? states[horizon][last[0]] : edges[horizon]], y: [states[horizon][last[1]]] },
      { kind: "cross", look: "", name: "target", x: [in_plane ? xT[last[0]] : edges[horizon]], y: [xT[last[1]]] }]);
    phase.describe(`Trajectory after epoch ${epochs[at]} and cycle ${c}: it ends ${said(error)} from the target.`);
    for (let i = 0; i < m; i++) {
      const one = (values) => Array.from({ length: horizon }, (_, k) => values[k * m + i]);
      const line = (values, look, name) => ({ kind: "steps", look, name, x: edges, y: one(values) });
      inputs[i].limits([0, horizon * dt], few_ends(all.flatMap((each) => one(each.u))));
      inputs[i].draw([...earlier(runs[at], c, (each, look, name) => line(each.u, look, name)), line(u, "network", "network"),
        ...(optimum ? [line(optimum.u, "optimum", "optimum")] : [])]);
      inputs[i].describe(`Controls after epoch ${epochs[at]} and cycle ${c}, between ${said(Math.min(...one(u)))} and ${said(Math.max(...one(u)))}.`);
    }
    const errors = runs.flat().map((each) => Math.log10(each.error)).filter(Number.isFinite), places = times(epochs.length, 1);
    const low = Math.floor(Math.min(...errors, 0)), high = Math.ceil(Math.max(...errors, low + 1));
    history.limits([-0.3, epochs.length - 0.7], [low, high]);
    const level = (k) => runs.map((each) => each[k].error);
    history.draw([...times(cycles + 1, 1).filter((k) => k !== c).map((k) => ({ kind: "line", look: "earlier", name: "other cycles", x: places, y: level(k) })),
      { kind: "line", look: "network", name: c ? `cycle ${c}` : "first proposal", x: places, y: level(c) }, { kind: "dots", look: "network", x: places, y: level(c) },
      { kind: "rule", look: "now", x: at }]);
    history.describe(`Final error of ${c ? `cycle ${c}` : "the first proposal"}: ${epochs.map((each, e) => `epoch ${each} ${said(level(c)[e])}`).join(", ")}.`);
    return `After epoch ${epochs[at]}, ${c ? `cycle ${c}` : "first proposal"}: these controls end ${said(error)} from the target.${optimum ? "" : " There is no optimum to compare with."}`;
  };
  const panels = h("div", { class: "trc-panels" }, phase.element, h("div", {}, ...inputs.map((each) => each.element)), history.element);
  const { redraw } = frame(el, "time machine", draw, h("div", { class: "trc-controls" },
    group("training", play, button("‹ back", () => set({ epoch: epochs[Math.max(number() - 1, 0)] })),
      button("next ›", () => set({ epoch: epochs[Math.min(number() + 1, epochs.length - 1)] })), when.element),
    group("refinement", cycle.element), group("problem", from.element)), panels);
  redraw();
  return leave;
} };
