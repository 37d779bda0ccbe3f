// Systems in discrete time. A system's step comes as a list of operations on single numbers, which
// trc_lib/scan/trace.py notes when it runs the Python function once.

const rint = (x) => { // half to even, as in PyTorch
  const down = Math.floor(x);
  return x - down === 0.5 ? down + (Math.abs(down) % 2) : Math.round(x);
};

export const OPERATIONS = {
  add: (x, y) => x + y, sub: (x, y) => x - y, mul: (x, y) => x * y, div: (x, y) => x / y,
  eq: (x, y) => Number(x === y), ne: (x, y) => Number(x !== y), lt: (x, y) => Number(x < y),
  le: (x, y) => Number(x <= y), gt: (x, y) => Number(x > y), ge: (x, y) => Number(x >= y),
  logical_and: (x, y) => Number(x !== 0 && y !== 0), logical_or: (x, y) => Number(x !== 0 || y !== 0),
  logical_xor: (x, y) => Number((x !== 0) !== (y !== 0)), logical_not: (x) => Number(x === 0),
  where: (which, x, y) => (which !== 0 ? x : y), neg: (x) => -x, fmod: (x, y) => x % y, round: rint,
  hypot: (x, y) => Math.hypot(x, y), maximum: Math.max, minimum: Math.min,
};
for (const name of ("abs sqrt exp log sin cos tan asin acos atan sinh cosh tanh floor ceil log1p expm1 atan2 pow").split(" ")) OPERATIONS[name] = Math[name];

/** A function of arrays of numbers that runs a list of operations; it returns a new array. */
export function Program({ arguments: count, constants, operations, results }) {
  const last = Math.max(count, ...Object.keys(constants).map((slot) => Number(slot) + 1),
    ...operations.map(([slot]) => slot + 1));
  const values = new Float64Array(last);
  for (const [slot, value] of Object.entries(constants)) values[slot] = Number(value);
  const rows = operations.map(([slot, name, [a, b = a, c = a]]) => {
    if (!(name in OPERATIONS)) throw new Error(`the operation ${name} is unknown`);
    return { slot, act: OPERATIONS[name], a, b, c };
  });
  return (...given) => {
    let at = 0;
    for (const array of given) for (const value of array) values[at++] = value;
    for (const { slot, act, a, b, c } of rows) values[slot] = act(values[a], values[b], values[c]);
    return Float64Array.from(results, (slot) => values[slot]);
  };
}

/** All states that controls, laid end to end, lead through. */
export function rollout(step, x0, controls, control_dim) {
  const states = [Float64Array.from(x0)];
  for (let k = 0; k < controls.length; k += control_dim) {
    states.push(step(states.at(-1), controls.subarray(k, k + control_dim)));
  }
  return states;
}
