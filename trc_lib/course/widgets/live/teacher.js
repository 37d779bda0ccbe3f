// Two laws for any problem: the exact one, and the continuous one u(t) = a + b t held at mid-step.

import { minimum_energy } from "../../../web/laws.js";
import { rollout } from "../../../web/systems.js";
import { cart, column, distance, few_ends, off_labels, place_in_words, plain, snapped, times, wider } from "./problem.js";
import { frame, group, h, Panel, said, shared, slider } from "./stage.js";

const FINE = 8; // points of a trajectory in each step, between which the cart moves on a parabola

/** Controls, states and misses of both laws, and the coefficients a and b of the continuous one. */
export function compared(start, target, steps, dt) {
  const { A, B, step } = cart(dt), T = steps * dt;
  const dp = target[0] - (start[0] + start[1] * T), dv = target[1] - start[1];
  const a = 6 * dp / T ** 2 - 2 * dv / T, b = 6 * dv / T ** 2 - 12 * dp / T ** 3;
  const law = (controls) => {
    const states = rollout(step, start, controls, 1), end = states[steps];
    return { controls, states, off: Array.from(end, (each, i) => each - target[i]), miss: distance(end, target) };
  };
  const middle = times(steps, dt).map((time) => time + dt / 2);
  return { a, b, exact: law(minimum_energy(A, B, steps)(start, target)),
    sampled: law(Float64Array.from(middle, (time) => a + b * time)) };
}

/** The same motion at more moments: each control is held for several short steps. */
export function between(start, controls, dt) {
  const held = Float64Array.from({ length: FINE * controls.length }, (_, k) => controls[Math.floor(k / FINE)]);
  return rollout(cart(dt / FINE).step, start, held, 1);
}

/** The end of a law in words: what is left by rounding alone counts as nothing. */
export const ends = (miss) => (miss < 1e-9 ? "at the target" : `${said(miss)} from the target`);
const sized = (value) => said(Math.abs(value) < 1e-9 ? 0 : value);

export default { render({ model, el }) {
  const { box, labels, steps: [fewest, most], dts: [shortest, longest] } = model.get("about"), names = labels.map(plain);
  const { get, set, follow, leave } = shared(model, () => redraw());
  follow("start", "target", "steps", "dt");

  const size = { height: 280, left: 64 };
  const phase = new Panel("phase plane", labels[0], labels[1], size);
  const inputs = new Panel("controls", "time (s)", labels[2], size);
  const position = new Panel("position over time", "time (s)", labels[0], size);
  const end = new Panel("at the target, enlarged", ...off_labels(names), size);
  for (const name of ["start", "target"]) {
    phase.handle(name, name, { get: () => get(name), set: (place) => set({ [name]: snapped(place) }), step: [0.05, 0.05],
      words: () => place_in_words(get(name), names), box: [[-box, -box], [box, box]] });
  }
  const steps = slider("steps N", { min: fewest, max: most, step: 1, value: get("steps"),
    act: (value) => set({ steps: value }) });
  const dt = slider("dt, a step", { min: shortest, max: longest, step: 0.01, value: get("dt"),
    words: (value) => `${said(value)} s`, act: (value) => set({ dt: value }) });

  const draw = () => {
    const [start, target, count, held] = [get("start"), get("target"), get("steps"), get("dt")];
    const { a, b, exact, sampled } = compared(start, target, count, held), duration = count * held;
    steps.set(count);
    dt.set(held);
    const laws = [["sampled", "sampled law", sampled], ["optimum", "optimum", exact]];
    const edges = times(count + 1, held), fine = times(FINE * count + 1, held / FINE), usual = [-box, box];
    const paths = laws.map(([look, name, { controls }]) => ({ look, name, rows: between(start, controls, held) }));
    const all = [...paths.flatMap(({ rows }) => rows), start, target];

    const levels = laws.flatMap(([, , { controls }]) => Array.from(controls));
    inputs.limits([0, duration], few_ends([...levels, a, a + b * duration, 0.02]));
    inputs.draw([...laws.map(([look, name, { controls }]) => ({ kind: "steps", look, name, x: edges, y: Array.from(controls) })),
      { kind: "line", look: "now", name: "u(t) = a + b t", x: [0, duration], y: [a, a + b * duration] }]);
    const [least, most_u] = [Math.min(...levels), Math.max(...levels)].map(sized);
    inputs.describe(`Controls of both laws, between ${least} and ${most_u}${names[2][1]}.`);

    position.limits([0, 1.04 * duration], wider(column(all, 0), usual));
    position.draw([...paths.map(({ look, name, rows }) => ({ kind: "line", look, name, x: fine, y: column(rows, 0) })),
      { kind: "cross", look: "", name: "target", x: [duration], y: [target[0]] }]);
    const arrivals = laws.map(([, name, law]) => `the ${name} ends at ${sized(law.states[count][0])}`).join(", ");
    position.describe(`Position over ${said(duration)} s: ${arrivals}${names[0][1]}.`);

    phase.limits(wider(column(all, 0), usual), wider(column(all, 1), usual));
    const path = ({ look, name, rows }) => ({ kind: "line", look, name, x: column(rows, 0), y: column(rows, 1) });
    phase.draw([...paths.map(path),
      { kind: "dots", look: "start", name: "start", x: [start[0]], y: [start[1]] },
      { kind: "cross", look: "", name: "target", x: [target[0]], y: [target[1]] }]);
    phase.describe(`Trajectories from start to target: the sampled law ends ${ends(sampled.miss)}.`);

    const off = laws.map(([, , law]) => law.off), wide = few_ends([...off.flat(), 1e-4]);
    end.limits(wide, wide);
    end.draw([...laws.map(([look, name], i) => ({ kind: "dots", look, name, x: [off[i][0]], y: [off[i][1]] })),
      { kind: "cross", look: "", name: "target", x: [0], y: [0] }]);
    const rounded = off[0].map((each) => (Math.abs(each) < 1e-9 ? 0 : each));
    end.describe(`The end of the sampled law, off by: ${place_in_words(rounded, names)}.`);
    const line = `${sized(a)} ${b < 0 ? "−" : "+"} ${sized(Math.abs(b))} t`;
    return `${count} steps of ${said(held)} s: the sampled law ends ${ends(sampled.miss)}, the optimum ${ends(exact.miss)}. `
      + `The continuous law is u(t) = ${line}.`;
  };

  const { root, redraw } = frame(el, "two laws for one problem", draw,
    h("div", { class: "trc-controls" }, group("time", steps.element, dt.element)),
    h("div", { class: "trc-panels trc-rows four" }, phase.element, end.element, inputs.element, position.element));
  root.prepend(root.querySelector(".trc-says"));
  redraw();
  return leave;
} };
