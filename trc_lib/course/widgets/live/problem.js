// What the explorables know of a problem: its system and law, a network's refinement of it, and what is off.

import { TinyRecursiveControl } from "../../../web/recursion.js";
import { read_network } from "../../../web/files.js";
import { bounded_dual, linear_law } from "../../../web/laws.js";
import { said } from "./stage.js";

export const distance = (x, y) => Math.hypot(...x.map((each, i) => each - y[i]));
export const column = (rows, i) => Array.from(rows, (row) => row[i]);
export const times = (count, dt) => Array.from({ length: count }, (_, k) => k * dt);

/** The marks of earlier cycles, one for each of ``all``, so that each of the others keeps its place; see `Panel.draw`. */
export const earlier = (all, at, mark) => all.map((each, i) =>
  (i < at ? mark(each, "earlier", "earlier cycles") : { kind: "line", look: "earlier", x: [], y: [] }));

/** A label without its unit, and one for a sentence: "position (m)" -> ["position", " m"]. */
export function plain(label) {
  const [, name, unit] = label.match(/^(.*?)(?: \(([^()]*)\))?$/s);
  return [name.replace(/^control /, ""), unit ? ` ${unit}` : ""];
}

/** The bounded law that Python's `web.law` describes; see `bounded_dual`. */
export const dual_from = (about) => bounded_dual({ ...about, low: about.low.map(Number), high: about.high.map(Number) });

/** The law that Python's `web.law` describes, the controls (or null) as a function of x0 and xT; null if it gives none. */
export function law_from(about) {
  if (about?.kind === "linear") return linear_law(about.gain);
  if (about?.kind !== "bounded") return null;
  const dual = dual_from(about);
  return (x0, xT) => dual(x0, xT).controls;
}

/** Whole rows of numbers in a binary trait, float64 or another ``kind``. */
export function rows_of(view, width, kind = Float64Array) {
  const numbers = new kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
  return Array.from({ length: numbers.length / width }, (_, i) => numbers.subarray(i * width, (i + 1) * width));
}

/**
 * The network of a widget: in its state, or if it is too large for a notebook, asked of the kernel. ``el`` says so.
 * Null if no kernel answers, as before a stored notebook is run: ``el`` says that, too.
 */
export async function network_of(model, el) {
  try {
    let bytes = model.get("network");
    if (!bytes?.byteLength) {
      el.textContent = "Waiting for the network, which is too large to be kept in the notebook …";
      const answer = await asked(model, { ask: "network" }).catch((error) => {
        el.textContent = `This cannot be shown: ${error.message}`;
        return null;
      });
      if (!answer) return null;
      bytes = answer.buffers[0];
    }
    const network = new TinyRecursiveControl(await read_network(bytes));
    el.textContent = "";
    return network;
  } catch (error) {
    el.textContent = `This cannot be shown: ${error.message}`;
    throw error;
  }
}

let questions = 0;

/** The kernel's answer to a question; an error if none comes in time. */
export function asked(model, question) {
  const number = questions++;
  return new Promise((resolve, reject) => {
    const over = () => {
      clearTimeout(late);
      model.off("msg:custom", listen);
    };
    const listen = (content, buffers) => {
      if (content.number !== number) return;
      over();
      if (content.error) reject(new Error(content.error));
      else resolve({ ...content, buffers });
    };
    const late = setTimeout(() => {
      over();
      reject(new Error("it needs the running notebook: run this cell again"));
    }, 8000);
    model.on("msg:custom", listen);
    model.send({ ...question, number });
  });
}

export const SWITCHES = ["unchanged", "feedback off", "z_H frozen", "z_L zero", "latents swapped"];

/** The trace of a refinement in which one thing is changed; latents are swapped with ``other``'s after cycle 1. */
export function refine(net, x0, xT, H_cycles, change, other) {
  const changed = Object.create(net), z_initial = net.encode(x0, xT);
  let calls = 0;
  const updates_z_H = () => ++calls % (net.config.L_cycles + 1) === 0;
  if (change === "latents swapped") {
    const first = net.trace(x0, xT, 1), [z_H, z_L] = net.trace(...other, 1).carry;
    const later = net.trace(x0, xT, H_cycles - 1, [z_H, z_L, first.carry[2]]);
    return { ...later, controls: [...first.controls, ...later.controls.slice(1)],
      z_H: [...first.z_H, ...later.z_H.slice(1)], z_L: [...first.z_L, ...later.z_L.slice(1)] };
  }
  if (change === "feedback off") changed.signal = (...given) => net.signal(...given).fill(0);
  if (change === "z_H frozen") changed.block = (x) => (updates_z_H() ? z_initial : net.block(x));
  if (change === "z_L zero") changed.block = (x) => (updates_z_H() ? net.block(x) : new Float64Array(x.length));
  return changed.trace(x0, xT, H_cycles);
}

/**
 * The two parts of a mistake: with a ``ruler`` (an orthogonal basis of the row space, a row for each control)
 * the squared lengths of u − u* in the row space and beyond it; else the final error and |u − u*|².
 */
export function parts(ruler, controls, optimum, error) {
  if (!optimum) return [error, NaN];
  const off = controls.map((each, i) => each - optimum[i]);
  if (!ruler) return [error, off.reduce((sum, each) => sum + each * each, 0)];
  const inside = ruler[0].map((_, j) => off.reduce((sum, each, i) => sum + each * ruler[i][j], 0));
  const beyond = off.map((each, i) => each - ruler[i].reduce((sum, q, j) => sum + q * inside[j], 0));
  return [inside, beyond].map((part) => part.reduce((sum, each) => sum + each * each, 0));
}

/** The ends of an axis around zero, one of few: ..., 0.2, 0.6, 2, 6, ... so that it seldom changes. */
export function few_ends(values) {
  const far = values.reduce((most, each) => (Number.isFinite(each) ? Math.max(most, Math.abs(each)) : most), 0) || 1;
  const power = 10 ** Math.floor(Math.log10(far));
  const half = [2, 6, 20].map((each) => each * power).find((each) => each >= far * 0.999999);
  return [-1.04 * half, 1.04 * half];
}

/**
 * The ends of an axis that holds all finite values: those of ``[low, high]``, or twice, four times, ... as far
 * from the middle, so that it seldom changes.
 */
export function wider(values, [low, high]) {
  const middle = (low + high) / 2;
  let far = 0, half = (high - low) / 2 || Math.abs(middle) || 1;
  for (const value of values) if (Number.isFinite(value)) far = Math.max(far, Math.abs(value - middle));
  while (half < far) half *= 2;
  return [middle - 1.08 * half, middle + 1.08 * half];
}

/** A state in words, "position 1 m, velocity 0 m/s"; ``names`` are `plain` labels. */
export const place_in_words = (state, names) => Array.from(state, (each, i) => `${names[i][0]} ${said(each)}${names[i][1]}`).join(", ");

/** Labels of the first two states as they are off: "position off (m)". */
export const off_labels = (names) => names.slice(0, 2).map(([name, unit]) => `${name} off${unit && ` (${unit.trim()})`}`);

/** A place where a handle was dropped, in steps of 0.05: round numbers can be hit. */
export const snapped = (place) => place.map((each) => Math.round(20 * each) / 20);

/** The course's cart: A, B, and its step of ``dt`` seconds. */
export function cart(dt) {
  const step = ([position, velocity], [u]) => Float64Array.of(
    position + dt * velocity + dt * dt / 2 * u, velocity + dt * u);
  return { A: [[1, dt], [0, 1]], B: [[dt * dt / 2], [dt]], step };
}

/**
 * The cells of a map of points x points: first the middles of blocks, about ``blocks`` a side, then all others.
 * ``block[cell]`` is the middle that stands for a cell until its own value is known.
 */
export function coarse_first(points, blocks) {
  const size = Math.ceil(points / blocks);
  const middle = (i) => Math.min(Math.floor(i / size) * size + Math.floor(size / 2), points - 1);
  const block = Int32Array.from({ length: points ** 2 },
    (_, cell) => middle(Math.floor(cell / points)) * points + middle(cell % points));
  const first = [...new Set(block)], later = [...block.keys()].filter((cell) => block[cell] !== cell);
  return { order: [...first, ...later], coarse: first.length, block };
}

const SLICE = 12; // milliseconds of a frame

/**
 * Fills maps little by little. `want(question)` asks for one; ``values_of(question, cells)`` gives the values of a few
 * cells, ``together`` at a time; ``show({question, values, known, whole})`` is called once a frame.
 *
 * A map is shown from when its coarse cells are known, so what is shown always has one question. While these are
 * missing, the map before stays; then the latest question is taken up at once.
 */
export function filler({ order, coarse, together, values_of, show, later = requestAnimationFrame }) {
  let wanted = null, at = null, running = false;
  const slice = () => {
    const began = performance.now();
    let longest = 0;
    do {
      if (at?.question !== wanted && (!at || at.known >= coarse)) {
        at = { question: wanted, values: new Array(order.length), known: 0 };
      }
      const started = performance.now(), cells = order.slice(at.known, at.known + together);
      const found = values_of(at.question, cells);
      cells.forEach((cell, i) => { at.values[cell] = found[i]; });
      at.known += cells.length;
      at.whole = at.known === order.length;
      longest = Math.max(longest, performance.now() - started);
      if (at.known >= coarse && at.question !== wanted) break; // shown once, then the next
    } while (!at.whole && performance.now() - began + longest < SLICE);
    if (at.known >= coarse) show(at);
    running = !at.whole || at.question !== wanted;
    if (running) later(slice);
  };
  return { want: (question) => {
    wanted = question;
    if (!running) running = Boolean(later(slice));
  } };
}
