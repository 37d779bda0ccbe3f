// "Steer it yourself": draw the controls by hand, and see where they lead and what they cost.

import { minimum_energy } from "../../../web/laws.js";
import { rollout } from "../../../web/systems.js";
import { cart, column, distance, few_ends, off_labels, place_in_words, plain, snapped, times, wider } from "./problem.js";
import { button, frame, group, h, Panel, said, shared } from "./stage.js";

const energy = (u) => u.reduce((sum, each) => sum + each * each, 0);

/** Where controls lead, what they cost, and the optimum; ``rules``: dt, success, enough (times the least energy). */
export function judged({ dt, success, enough }, start, target, controls) {
  const { A, B, step } = cart(dt), u = Float64Array.from(controls), optimum = minimum_energy(A, B, u.length)(start, target);
  const [states, best] = [u, optimum].map((each) => rollout(step, start, each, 1));
  const off = Array.from(states.at(-1), (each, i) => each - target[i]), miss = distance(states.at(-1), target);
  const spent = energy(u), least = energy(optimum) > 1e-12 ? energy(optimum) : 0; // less is rounding
  const won = miss < success && (least > 0 ? spent < enough * least : spent < 1e-12);
  return { states, best, optimum: Array.from(optimum), off, miss, spent, least, won };
}

/** Numbers that look like draws from a normal distribution, the same for the same seed. */
export function noise(seed, count) {
  let state = seed;
  const uniform = () => { // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

/**
 * The controls with a random part of length 0.3 added: a "wiggle" in the null space, which leaves the end where it
 * was, or a "nudge" in the row space, which only moves the end.
 */
export function pushed(dt, controls, part, seed) {
  const { A, B, step } = cart(dt), rest = [0, 0], law = minimum_energy(A, B, controls.length);
  // Of all controls from rest to the same end, those of least energy are the row-space part.
  const row_space_part = (w) => law(rest, rollout(step, rest, Float64Array.from(w), 1).at(-1));
  let w = noise(seed, controls.length);
  for (let i = 0; i < 2; i++) { // twice: the second time removes what rounding left
    const inside = row_space_part(w);
    w = part === "wiggle" ? w.map((each, k) => each - inside[k]) : Array.from(inside);
  }
  const size = 0.3 / Math.sqrt(energy(w));
  return Array.from(controls, (each, k) => each + size * w[k]);
}

/** The controls after the pen went straight from one place to another: each step that it passed is set. */
export function drawn(dt, controls, from, to) {
  const at = ([time]) => Math.min(Math.max(Math.floor(time / dt), 0), controls.length - 1);
  const [first, last] = [at(from), at(to)], made = Array.from(controls);
  for (let k = Math.min(first, last); k <= Math.max(first, last); k++) {
    const share = k === last ? 1 : ((k + 0.5) * dt - from[0]) / (to[0] - from[0]);
    if (k !== first || first === last) made[k] = from[1] + Math.min(Math.max(share, 0), 1) * (to[1] - from[1]);
  }
  return made;
}

const short = (value) => Math.round(1000 * value) / 1000;

/** What the player has reached, in words. */
export function words({ success, enough }, { miss, off, spent, least, won }, names) {
  const ends = short(miss) === 0 ? "You end at the target."
    : `You end ${said(short(miss))} from the target (off by: ${place_in_words(off.map(short), names)}).`;
  const spends = least ? `Energy ${said(spent)} (m/s²)², ${(spent / least).toFixed(2)} times the least.`
    : `Energy ${said(spent)} (m/s²)²; the least is zero, the cart gets there by itself.`;
  const rule = least ? `with less than ${enough} times the least energy` : "without pushing";
  return won ? `You win! ${ends} ${spends}` : `${ends} ${spends} To win, end within ${success} ${rule}.`;
}

export default { render({ model, el }) {
  const about = model.get("about"), { dt, box, labels } = about, names = labels.map(plain);
  const { get, set, follow, leave } = shared(model, () => redraw());
  follow("start", "target", "controls", "shows_optimum");
  const horizon = get("controls").length, edges = times(horizon + 1, dt), duration = horizon * dt;
  const now = () => judged(about, get("start"), get("target"), get("controls"));
  const act = (values) => { // whoever has won may look, also later
    const before = now().won;
    set(values);
    if (before || now().won) set({ shows_optimum: true });
  };

  const size = { height: 280, left: 64 };
  const inputs = new Panel("controls: draw here", "time (s)", labels[2], size);
  const phase = new Panel("where they lead", labels[0], labels[1], size);
  const end = new Panel("your end, seen from the target", ...off_labels(names), size);
  const position = new Panel("position over time", "time (s)", labels[0], size);

  let pen = null; // the last place of the pen, while it draws
  const sheet = h("div", { class: "trc-draw" });
  const place_of = (event) => {
    const corner = inputs.svg.getBoundingClientRect();
    const [time, u] = inputs.place(event.clientX - corner.left, event.clientY - corner.top);
    return [time, short(Math.min(Math.max(u, inputs.y[0]), inputs.y[1]))];
  };
  const draw_to = (to) => {
    act({ controls: drawn(dt, get("controls"), pen ?? to, to) });
    pen = to;
  };
  sheet.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    sheet.setPointerCapture(event.pointerId);
    draw_to(place_of(event));
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!pen || !event.isPrimary) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const each of passed.length ? passed : [event]) draw_to(place_of(each));
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    sheet.addEventListener(end, () => { pen = null; redraw(); });
  }
  inputs.area.append(sheet);

  // One handle a step, for the keyboard: up and down change it, left and right go to its neighbours.
  const knobs = Array.from({ length: horizon }, (_, k) => {
    const middle = (k + 0.5) * dt;
    return inputs.handle(`step ${k + 1} of ${horizon}`, "step", {
      get: () => [middle, get("controls")[k]], step: [dt, 0.02], box: [[0, -1e3], [duration, 1e3]],
      words: () => `${said(get("controls")[k])}${names[2][1]}`,
      set: ([time, u]) => {
        const other = Math.min(Math.max(Math.floor(time / dt), 0), horizon - 1);
        if (other !== k) reach_knob(other);
        else act({ controls: get("controls").map((each, i) => (i === k ? short(u) : each)) });
      } });
  });
  const reach_knob = (k) => {
    knobs.forEach((knob, i) => knob.setAttribute("tabindex", i === k ? 0 : -1));
    knobs[k].focus();
  };
  knobs.slice(1).forEach((knob) => knob.setAttribute("tabindex", -1));

  for (const name of ["start", "target"]) {
    phase.handle(name, name, { get: () => get(name), set: (place) => act({ [name]: snapped(place) }), step: [0.05, 0.05],
      words: () => place_in_words(get(name), names), box: [[-box, -box], [box, box]] });
  }

  const push = (part) => act({
    controls: pushed(dt, get("controls"), part, get("pushes")), pushes: get("pushes") + 1 });
  const peek = button("show the optimum", () => set({ shows_optimum: !get("shows_optimum") }));
  const over = () => set({ ...about.first, controls: get("controls").map(() => 0), shows_optimum: false, pushes: 0 });

  const draw = () => {
    const [start, target, u] = [get("start"), get("target"), get("controls")], seen = now(), { states, best, optimum } = seen;
    const shown = get("shows_optimum") || seen.won;
    peek.textContent = shown ? "hide the optimum" : "show the optimum";
    peek.disabled = seen.won;
    if (!pen) inputs.limits([0, duration], few_ends([...u, ...(shown ? optimum : []), 0.6]));
    inputs.draw([{ kind: "level", y: 0, look: "pale" }, { kind: "steps", x: edges, y: u, look: "network", name: "you" },
      ...(shown ? [{ kind: "steps", x: edges, y: optimum, look: "optimum", name: "optimum" }] : [])]);
    inputs.describe(`Your controls, between ${said(Math.min(...u))} and ${said(Math.max(...u))}${names[2][1]}.`);

    const all = [...states, ...(shown ? best : []), start, target], usual = [-box, box], turn = times(49, Math.PI / 24);
    phase.limits(wider(column(all, 0), usual), wider(column(all, 1), usual));
    const goal = ([x, y], name) => ({ kind: "line", look: "goal", name,
      x: turn.map((angle) => x + about.success * Math.cos(angle)), y: turn.map((angle) => y + about.success * Math.sin(angle)) });
    phase.draw([goal(target), { kind: "line", look: "network", name: "you", x: column(states, 0), y: column(states, 1) },
      { kind: "dots", look: "network", x: [states[horizon][0]], y: [states[horizon][1]] },
      ...(shown ? [{ kind: "line", look: "optimum", name: "optimum", x: column(best, 0), y: column(best, 1) }] : []),
      { kind: "dots", look: "start", name: "start", x: [start[0]], y: [start[1]] },
      { kind: "cross", look: "", name: "target", x: [target[0]], y: [target[1]] }]);
    phase.describe(`Your trajectory: it ends ${said(short(seen.miss))} from the target.`);

    const wide = few_ends([...seen.off, 0.2]);
    end.limits(wide, wide);
    end.draw([goal([0, 0], `within ${about.success}`),
      { kind: "dots", look: "network", name: "your end", x: [seen.off[0]], y: [seen.off[1]] },
      { kind: "cross", look: "", name: "target", x: [0], y: [0] }]);
    end.describe(`Your end, off by: ${place_in_words(seen.off.map(short), names)}.`);

    position.limits([0, 1.04 * duration], wider(column(all, 0), usual));
    position.draw([{ kind: "line", look: "network", name: "you", x: edges, y: column(states, 0) },
      ...(shown ? [{ kind: "line", look: "optimum", name: "optimum", x: edges, y: column(best, 0) }] : []),
      { kind: "cross", look: "", name: "target", x: [duration], y: [target[0]] }]);
    const [from, to, goes] = [start, states[horizon], target].map((each) => said(short(each[0])));
    position.describe(`Your position: from ${from} to ${to}, target ${goes}${names[0][1]}.`);
    return words(about, seen, names);
  };

  const { root, redraw } = frame(el, "steer it yourself", draw,
    h("div", { class: "trc-controls" },
      group("add", button("a null-space wiggle", () => push("wiggle")), button("a row-space nudge", () => push("nudge"))),
      group("game", peek, button("start over", over))),
    h("div", { class: "trc-panels trc-rows four" }, inputs.element, phase.element, end.element, position.element));
  root.prepend(root.querySelector(".trc-says"));
  redraw();
  return leave;
} };
