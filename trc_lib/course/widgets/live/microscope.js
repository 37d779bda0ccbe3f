// The refinement microscope: one problem through every H cycle and every L step.

import { rollout } from "../../../web/systems.js";
import { asked, column, distance, earlier, few_ends, law_from, network_of, off_labels, parts, place_in_words, plain, refine, rows_of, SWITCHES, times } from "./problem.js";
import { button, choice, frame, group, h, Panel, player, reach, said, shared, slider, Strip } from "./stage.js";

export default { async render({ model, el }) {
  const about = model.get("about"), { shown, box, H_cycles, trained } = about;
  const net = await network_of(model, el);
  if (!net) return null;
  const { system } = net, { state_dim: n, control_dim: m, dt } = system;
  const { horizon, L_cycles } = net.config, law = law_from(about.law), ruler_rows = about.law?.row_space, edges = times(horizon + 1, dt);
  const samples = new Map(rows_of(model.get("samples"), 2 * n + horizon * m).map((row, i) => [about.samples[i], row]));
  const answers = new Map(); // problems' optima that the kernel gave
  const in_plane = shown.length === 2, places = in_plane ? shown : [shown[0]];
  const names = system.labels.map(plain);
  const { get, set, follow, leave } = shared(model, () => redraw());
  follow("start", "target", "H_cycle", "L_step", "switch");

  const optimum_of = (x0, xT) => {
    const key = String([x0, xT]), row = samples.get(get("sample"));
    if (law) return law(x0, xT);
    if (row && key === String([row.subarray(0, n), row.subarray(n, 2 * n)])) return row.subarray(2 * n);
    if (!answers.has(key)) {
      clearTimeout(answers.later);
      answers.later = setTimeout(() => {
        answers.set(key, null);
        asked(model, { ask: "optimum", start: x0, target: xT }).then(
          ({ controls }) => { answers.set(key, controls && Float64Array.from(controls)); redraw(); }, () => answers.delete(key));
      }, 250);
    }
    return answers.get(key) ?? null;
  };

  let seen = {};
  const see = () => {
    const depth = phase.held ? Math.max(trained, get("H_cycle")) : H_cycles; // fast while it is dragged, all after that
    const [x0, xT, change] = [get("start"), get("target"), get("switch")], key = String([x0, xT, change, depth]);
    if (seen.key !== key) {
      const trace = refine(net, Float64Array.from(x0), Float64Array.from(xT), depth, change, about.other);
      const states = trace.controls.map((u) => rollout(net.step, x0, u, m));
      seen = { key, ...trace, states, errors: states.map((each) => distance(each[horizon], xT)) };
    }
    if (!seen.optimum) {
      seen.optimum = optimum_of(x0, xT);
      seen.best = seen.optimum && rollout(net.step, x0, seen.optimum, m);
      seen.parts = seen.controls.map((u, i) => parts(ruler_rows, u, seen.optimum, seen.errors[i]));
    }
    return seen;
  };

  const roam = [...samples.values()].flatMap((row) => rollout(net.step, row.subarray(0, n), row.subarray(2 * n), m))
    .concat([...samples.values()].map((row) => row.subarray(n, 2 * n)));
  const home = places.map((i) => [Math.min(box[0][i], ...column(roam, i)), Math.max(box[1][i], ...column(roam, i))]);
  const phase = in_plane ? new Panel("where the controls lead: drag start or target", ...shown.map((i) => system.labels[i]), { square: true, glides: true })
    : new Panel("where the controls lead", "time (s)", system.labels[0], { glides: true });
  const inputs = Array.from({ length: m }, (_, i) => new Panel(i ? "" : "the controls", "time (s)", system.labels[n + i],
    { glides: true, ...(m > 1 ? { height: 170 } : { square: true }) }));
  const off = Array.from({ length: m }, (_, i) => new Panel(i ? "" : "what is off: u − u*", "time (s)", system.labels[n + i].replace("control ", ""),
    { left: 68, glides: true, ...(m > 1 ? { height: 170 } : { square: true }) }));
  const end = in_plane && new Panel("at the target, enlarged", ...off_labels(shown.map((i) => names[i])), { left: 68 });
  const ruler = new Panel(ruler_rows ? "the two parts of the mistake" : "how far off", "cycle", ruler_rows ? "squared length of u − u*" : "error; squared length", { log: true, square: true });
  const strips = { z_H: new Strip("z_H", "cycle", "component", 3, 106), z_L: new Strip("z_L", "cycle, each of several L steps", "component", 3, 106, L_cycles) };

  const words = (name) => () => place_in_words(places.map((i) => get(name)[i]), places.map((i) => names[i]));
  const put = (name) => (place) => set({ [name]: get(name).map((each, i) => (places.includes(i) ? place[places.indexOf(i)] : each)), sample: -1 });
  if (in_plane) {
    for (const name of ["start", "target"]) {
      phase.handle(name, name, { get: () => shown.map((i) => get(name)[i]), set: put(name), words: words(name),
        step: shown.map((i) => (box[1][i] - box[0][i]) / 100), box: box.map((ends) => shown.map((i) => ends[i])) });
    }
  }
  const others = ["start", "target"].flatMap((name) => system.labels.slice(0, n).map((label, i) => ({ name, label, i })))
    .filter(({ i }) => !in_plane || !shown.includes(i)).map(({ name, label, i }) => ({ name, i, ...slider(`${name} ${label}`, {
      min: box[0][i], max: box[1][i], step: "any", value: get(name)[i], words: (value) => said(value),
      act: (value) => set({ [name]: get(name).map((each, j) => (j === i ? value : each)), sample: -1 }) }) }));

  const cycle = slider("H cycle", { min: 0, max: H_cycles, step: 1, value: get("H_cycle"), act: (value) => set({ H_cycle: value, L_step: 0 }),
    words: (value) => (value === 0 ? "0, first proposal" : value > trained ? `${value}, beyond H_cycles` : String(value)) });
  const step = slider("L step", { min: 0, max: L_cycles, step: 1, value: get("L_step"), act: (value) => set({ L_step: value }) });
  const interventions = choice("change", SWITCHES, get("switch"), (value) => set({ switch: value }));
  const take = (index) => {
    const row = samples.get(index);
    set({ start: Array.from(row.subarray(0, n)), target: Array.from(row.subarray(n, 2 * n)), sample: index });
  };
  const ranks = slider("sample, worst first", { min: 0, max: about.samples.length - 1, step: 1, value: 0,
    words: () => (get("sample") < 0 ? "none, your own" : `number ${get("sample")}`), act: (rank) => take(about.samples[rank]) });
  const play = player(() => H_cycles, () => get("H_cycle"), (value) => set({ H_cycle: value, L_step: 0 }));

  const draw = () => {
    const { controls, states, optimum, best, errors, parts: sizes, z_H, z_L } = see();
    const [at, xT, moment] = [get("H_cycle"), get("target"), Math.min(get("H_cycle") * L_cycles + get("L_step"), z_L.length - 1)];
    const depth = Math.max(trained, at), some = controls.slice(0, depth + 1);
    for (const [control, name] of [[cycle, "H_cycle"], [step, "L_step"]]) control.set(get(name));
    step.input.disabled = at === H_cycles;
    interventions.set(get("switch"));
    ranks.set(Math.max(about.samples.indexOf(get("sample")), 0));
    for (const { name, i, set: show } of others) show(get(name)[i]);

    const run = (kind, rows, look, name) => ({ kind, look, name, x: in_plane ? column(rows, shown[0]) : edges, y: column(rows, shown[in_plane ? 1 : 0]) });
    const lead = states.slice(0, depth + 1).flat().concat(best ?? [], [xT]);
    const ends = places.map((i, k) => reach(column(lead, i), home[k]));
    phase.limits(...(in_plane ? ends : [[0, 1.03 * horizon * dt], ends[0]]));
    phase.draw([...earlier(states, at, (each, look, name) => run("line", each, look, name)),
      run("line", states[at], "network", "network"), ...(best ? [run("line", best, "optimum", "optimum")] : []),
      { kind: "dots", look: "network", x: [in_plane ? states[at][horizon][shown[0]] : edges[horizon]], y: [states[at][horizon][places.at(-1)]] },
      ...(in_plane ? [{ kind: "dots", look: "start", name: "start", x: [], y: [] }] : []),
      { kind: "cross", look: "", name: "target", x: [in_plane ? xT[shown[0]] : edges[horizon]], y: [xT[places.at(-1)]] }]);
    phase.describe(`Trajectory after cycle ${at}: it ends ${said(errors[at])} from the target.`);

    for (let i = 0; i < m; i++) {
      const one = (u) => Array.from({ length: horizon }, (_, k) => u[k * m + i]);
      const line = (u, look, name) => ({ kind: "steps", x: edges, y: one(u), look, name });
      const limits = [system.low, system.high].map((each) => Number(each[i])).filter(Number.isFinite);
      inputs[i].limits([0, horizon * dt], few_ends([...some.map(one).flat(), ...(optimum ? one(optimum) : []), ...limits]));
      inputs[i].draw([...limits.map((y) => ({ kind: "level", y, look: "limit", name: "limit" })),
        ...earlier(controls, at, line), line(controls[at], "network", "network"),
        ...(optimum ? [line(optimum, "optimum", "optimum")] : [])]);
      inputs[i].describe(`Controls after cycle ${at}, between ${said(Math.min(...one(controls[at])))} and ${said(Math.max(...one(controls[at])))}.`);
      const gaps = optimum ? controls.map((u) => u.map((each, k) => each - optimum[k])) : [];
      off[i].element.hidden = !optimum;
      if (!optimum) continue;
      off[i].limits([0, horizon * dt], few_ends(gaps.slice(0, depth + 1).map(one).flat()));
      off[i].draw([{ kind: "level", y: 0, look: "optimum", name: "optimum" }, ...earlier(gaps, at, line), line(gaps[at], "network", "network")]);
      off[i].describe(`Difference from the optimum after cycle ${at}: at most ${said(Math.max(...one(gaps[at]).map(Math.abs)))}.`);
    }

    if (end) {
      const miss = states.map((each) => shown.map((i) => each[horizon][i] - xT[i]));
      const wide = few_ends(miss.slice(0, depth + 1).flat());
      end.limits(wide, wide);
      end.draw([{ kind: "line", look: "earlier", x: column(miss.slice(0, at + 1), 0), y: column(miss.slice(0, at + 1), 1) },
        { kind: "dots", look: "earlier", name: "earlier cycles", x: column(miss.slice(0, at), 0), y: column(miss.slice(0, at), 1) },
        { kind: "dots", look: "network", name: "this cycle", x: [miss[at][0]], y: [miss[at][1]] }, { kind: "cross", look: "", name: "target", x: [0], y: [0] }]);
      end.describe(`End of cycle ${at}: ${shown.map((i, k) => `${names[i][0]} off by ${said(miss[at][k])}${names[i][1]}`).join(", ")}.`);
    }

    const cycles = times(controls.length, 1), levels = sizes.flat().filter((each) => each > 0 && Number.isFinite(each)).map(Math.log10);
    const top = levels.length ? Math.ceil(Math.max(...levels)) : 0, [first, second] = ruler_rows ? ["terminal error", "excess energy"] : ["final error", "|u − u*|²"];
    ruler.limits([-0.3, H_cycles + 0.3], [Math.max(Math.floor(Math.min(...levels, top - 1)), top - 12), top]);
    ruler.draw([{ kind: "band", look: "", name: "up to its H_cycles", x: [-0.3, trained + 0.2] },
      { kind: "line", look: "network", name: first, x: cycles, y: column(sizes, 0) }, { kind: "dots", look: "network", x: cycles, y: column(sizes, 0) },
      { kind: "line", look: "second", name: optimum ? second : "", x: cycles, y: column(sizes, 1) }, { kind: "rule", look: "now", x: at }]);
    ruler.describe(`After cycle ${at}: ${first} ${said(sizes[at][0])}, ${second} ${said(sizes[at][1])}.`);

    strips.z_H.draw(z_H, H_cycles + 1);
    strips.z_H.mark(at);
    strips.z_L.draw(z_L, H_cycles * L_cycles + 1);
    strips.z_L.mark(moment);
    for (const [name, strip] of Object.entries(strips)) strip.describe(`The ${net.config.latent_dim} numbers of ${name} over time, as colours.`);
    const where = at === 0 ? "First proposal" : `After cycle ${at}${at > trained ? `, beyond H_cycles = ${trained}` : ""}`;
    const unknown = optimum ? "" : law ? " No controls within the limits are known that reach it." : " The optimum is not known here.";
    const inner = get("L_step") && at < H_cycles && moment < z_L.length
      ? ` L step ${get("L_step")} of cycle ${at + 1}: z_L moved ${said(distance(z_L[moment], z_L[moment - 1]))}.` : "";
    const in_words = (state) => `[${state.map((each) => said(each)).join(", ")}]`;
    const other = get("switch") === SWITCHES.at(-1) ? ` with those of ${about.other.map(in_words).join(" → ")}` : "";
    const went = at ? ` In this cycle z_H moved ${said(distance(z_H[at], z_H[at - 1]))}.` : "";
    return `${where}, ${get("switch")}${other}: these controls end ${said(errors[at])} from the target.${went}${inner}${unknown}`;
  };

  const panels = h("div", { class: "trc-panels" }, phase.element, stacked(inputs), stacked(off), ...(end ? [end.element] : []), ruler.element,
    h("div", {}, strips.z_H.element, strips.z_L.element));
  const controls = h("div", { class: "trc-controls" },
    group("playback", play, button("‹ back", () => set({ H_cycle: Math.max(get("H_cycle") - 1, 0), L_step: 0 })),
      button("next ›", () => set({ H_cycle: Math.min(get("H_cycle") + 1, H_cycles), L_step: 0 })), cycle.element, step.element),
    group("problem", ranks.element, button("the worst", () => take(about.samples[0])), ...others.map((each) => each.element)), group("interventions", interventions.element));
  const { redraw } = frame(el, "refinement microscope", draw, controls, panels);
  redraw();
  return leave;
} };

const stacked = (panels) => h("div", {}, ...panels.map((panel) => panel.element));
