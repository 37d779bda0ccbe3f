// The tiny recursive controller, for one problem: the same as trc_lib/model/recursion.py, line by
// line. Weights are float32, as trained; everything that is computed is float64.

import { Program, rollout } from "./systems.js";

/** An array with f(x[i], y[i]) in place i: a loop, since the arrays' own `map` is ten times slower. */
function each(f, x, y = x) {
  const z = new Float64Array(x.length);
  for (let i = 0; i < z.length; i++) z[i] = f(x[i], y[i]);
  return z;
}

const plus = (x, y) => each((a, b) => a + b, x, y);
const minus = (x, y) => each((a, b) => a - b, x, y);
const times = (x, y) => each((a, b) => a * b, x, y);
const over = (x, y) => each((a, b) => a / b, x, y);
const scaled = (x, factor) => each((a) => a * factor, x);
const silu = (x) => each((a) => a / (1 + Math.exp(-a)), x);
const clipped = (x, low, high) => each(Math.min, each(Math.max, x, low), high);

function squared_size(x) {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * x[i];
  return sum;
}

/** x -> weight x + bias. Four rows at once, so that each x[j] is read once for four sums. */
function linear({ data, shape: [rows, columns] }, bias) {
  return (x) => {
    const y = new Float64Array(rows);
    if (bias) y.set(bias.data);
    let i = 0;
    for (; i < rows - 3; i += 4) {
      const at = i * columns;
      let a = 0, b = 0, c = 0, d = 0;
      for (let j = 0; j < columns; j++) {
        const value = x[j];
        a += data[at + j] * value;
        b += data[at + columns + j] * value;
        c += data[at + 2 * columns + j] * value;
        d += data[at + 3 * columns + j] * value;
      }
      y[i] += a;
      y[i + 1] += b;
      y[i + 2] += c;
      y[i + 3] += d;
    }
    for (; i < rows; i++) {
      for (let j = 0; j < columns; j++) y[i] += data[i * columns + j] * x[j];
    }
    return y;
  };
}

/** Linear layers with SiLU between them, from the weights whose names begin with ``name``. */
function sequential(weights, name) {
  const numbers = Object.keys(weights).filter((each) => each.startsWith(`${name}.`))
    .map((each) => Number(each.split(".")[1]));
  const layers = [...new Set(numbers)].sort((a, b) => a - b)
    .map((i) => linear(weights[`${name}.${i}.weight`], weights[`${name}.${i}.bias`]));
  return (x) => layers.slice(1).reduce((y, layer) => layer(silu(y)), layers[0](x));
}

/** A gated layer: down(silu(gate(x)) * value(x)). */
function swiGLU(weights, name) {
  const gate_and_value = linear(weights[`${name}.gate_and_value.weight`]);
  const down = linear(weights[`${name}.down.weight`]);
  return (x) => {
    const both = gate_and_value(x), hidden = both.length / 2;
    return down(times(silu(both.subarray(0, hidden)), both.subarray(hidden)));
  };
}

export const EPSILON = 2 ** -23; // of float32, in which the network was trained

const rms_norm = (x) => scaled(x, 1 / Math.sqrt(squared_size(x) / x.length + EPSILON));

/** The block that updates both latents: residual layers, x <- norm(x + layer(x)). */
function block(weights, count) {
  const layers = Array.from({ length: count }, (_, i) => swiGLU(weights, `block.layers.${i}`));
  return (x) => layers.reduce((y, layer) => rms_norm(plus(y, layer(y))), x);
}

/** What a cycle receives about its controls: the same as feedback.py. */
const SIGNALS = {
  NoFeedback: () => () => new Float64Array(1),

  FinalError: (net, contents, scale) => (x0, xT, controls) => {
    const final_state = rollout(net.step, x0, controls, net.system.control_dim).at(-1);
    return over(minus(final_state, xT), scale);
  },

  CostGradient: (net, { cost }, scale) => (x0, xT, controls) =>
    over(cost_gradient(net, cost, x0, xT, controls), scale),
};

/** The gradient of a quadratic cost in the controls, by one sweep backwards in time. */
function cost_gradient({ step, jacobians, system, low, high }, { Q, R, Q_final }, x0, xT, controls) {
  const { state_dim: n, control_dim: m } = system, steps = controls.length / m;
  const states = rollout(step, x0, controls, m), gradient = new Float64Array(controls.length);
  const slope = (W, x, centre) => W.map((row) => 2 * row.reduce((sum, w, j) => sum + w * (x[j] - centre[j]), 0));
  let adjoint = slope(Q_final, states[steps], xT);
  for (let k = steps - 1; k >= 0; k--) {
    const u = controls.subarray(k * m, (k + 1) * m), own = slope(Q, states[k], xT);
    const both = jacobians(states[k], u); // A, then B, row by row
    const effort = slope(R, u, new Float64Array(m));
    for (let j = 0; j < m; j++) {
      const g = adjoint.reduce((sum, value, i) => sum + value * both[n * n + i * m + j], effort[j]);
      const outward = (u[j] >= high[j] && g < 0) || (u[j] <= low[j] && g > 0);
      gradient[k * m + j] = outward ? 0 : g;
    }
    adjoint = own.map((value, j) => adjoint.reduce((sum, each, i) => sum + each * both[i * n + j], value));
  }
  return gradient;
}

/** Two-level recursive controller: problem in, controls out, refined over H cycles. */
export class TinyRecursiveControl {
  /** ``header`` and ``weights``: as `read_network` returns them. */
  constructor({ header, weights }) {
    const { config, system, feedback } = header, sequence = config.horizon * system.control_dim;
    Object.assign(this, { config, system, weights });
    this.step = Program(system.step);
    this.jacobians = system.jacobians && Program(system.jacobians);
    this.low = system.low.map(Number);
    this.high = system.high.map(Number);
    const along = (values) => Float64Array.from({ length: sequence }, (_, i) => values[i % values.length]);
    this.scale = along(weights.control_scale.data);
    this.limits = [along(this.low), along(this.high)];
    this.slack = [ // 1e-6 beyond the limits; `to_physical` applies the exact ones
      over(this.limits[0].map((low) => low * (low < 0 ? 1.000001 : 0.999999)), this.scale),
      over(this.limits[1].map((high) => high * (high > 0 ? 1.000001 : 0.999999)), this.scale)];
    this.encoder = sequential(weights, "encoder");
    this.initial_generator = sequential(weights, "initial_generator");
    this.control_embedding = linear(weights["control_embedding.weight"], weights["control_embedding.bias"]);
    this.error_embedding = feedback.kind === "NoFeedback" ? () => new Float64Array(config.latent_dim)
      : linear(weights["error_embedding.weight"]);
    this.block = block(weights, config.block_layers);
    this.decoder = sequential(weights, "decoder");
    this.proportional = feedback.kind === "Proportional";
    const source = this.proportional ? feedback.inner : feedback;
    const scale = weights[this.proportional ? "feedback.inner.scale" : "feedback.scale"];
    this.signal = SIGNALS[source.kind](this, source, scale?.data);
  }

  /** A signal and a gain: one, or if the correction is scaled by the error, the signal's size. */
  feedback(x0, xT, controls) {
    const signal = this.signal(x0, xT, controls);
    if (!this.proportional) return [signal, 1];
    const size = Math.sqrt(squared_size(signal) + 1e-12);
    return [Float64Array.of(...scaled(signal, 1 / size), Math.log(size) / 4), size];
  }

  /** z_initial from [x0, xT, time remaining], each in a unit in which it is of size one. */
  encode(x0, xT) {
    const time = this.config.horizon * this.system.dt / this.weights.time_unit.data[0];
    const scale = this.weights.state_scale.data;
    return this.encoder(Float64Array.of(...over(x0, scale), ...over(xT, scale), time));
  }

  /** The carry before the first cycle: z_H, z_L and the first proposal of the controls. */
  propose(z_initial) {
    const controls = this.clamp(this.initial_generator(z_initial));
    return [z_initial, new Float64Array(z_initial.length), controls];
  }

  clamp(controls) {
    return clipped(controls, ...this.slack);
  }

  /** Controls in physical units within their exact limits. */
  to_physical(controls) {
    return clipped(times(controls, this.scale), ...this.limits);
  }

  /** H cycles, each of L_cycles updates of z_L, one of z_H and one correction of the controls. */
  recursive_reasoning(x0, xT, H_cycles, carry = null) {
    const z_initial = this.encode(x0, xT);
    let [z_H, z_L, controls] = carry ?? this.propose(z_initial);
    const history = [controls];
    for (let h = 0; h < H_cycles; h++) {                          // outer cycle: strategy
      let x = plus(z_initial, this.control_embedding(controls));
      const [signal, gain] = this.feedback(x0, xT, this.to_physical(controls));
      x = plus(x, this.error_embedding(signal));
      for (let l = 0; l < this.config.L_cycles; l++) {            // inner cycle: details
        z_L = this.block(plus(plus(z_L, z_H), x));
      }
      z_H = this.block(plus(z_H, z_L));                           // the same block
      controls = this.clamp(plus(controls, scaled(this.decoder(z_H), gain)));
      history.push(controls);
    }
    return [history, [z_H, z_L, controls]];
  }

  /** All that happens in a refinement: controls of each cycle in physical units, and the latents. */
  trace(x0, xT, H_cycles, carry = null) {
    const { L_cycles } = this.config, outputs = [];
    const [z_H, z_L, controls] = carry ?? this.propose(this.encode(x0, xT));
    const watched = Object.assign(Object.create(this), {
      block: (x) => (outputs.push(this.block(x)), outputs.at(-1)) });
    const [history, last] = watched.recursive_reasoning(x0, xT, H_cycles, [z_H, z_L, controls]);
    return {
      controls: history.map((each) => this.to_physical(each)), carry: last,
      z_H: [z_H, ...outputs.filter((_, i) => i % (L_cycles + 1) === L_cycles)],
      z_L: [z_L, ...outputs.filter((_, i) => i % (L_cycles + 1) !== L_cycles)] };
  }
}
