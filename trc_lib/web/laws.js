// The exact laws: controls of least energy without limits, and within them. See trc_lib/teachers.

const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
const moved = (matrix, x) => matrix.map((row) => dot(row, x));
const transposed = (matrix) => matrix[0].map((_, j) => matrix.map((row) => row[j]));
const product = (left, right) => left.map((row) => moved(transposed(right), row));
const length = (x) => Math.hypot(...x);

/** The solution of a symmetric positive definite system, by Cholesky's factor L L^T = matrix. */
export function solved(matrix, right) {
  const n = right.length, L = matrix.map((row) => row.slice()), x = Array.from(right);
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      const rest = L[i][j] - dot(L[i].slice(0, j), L[j].slice(0, j));
      L[i][j] = i === j ? Math.sqrt(rest) : rest / L[j][j];
    }
  }
  for (let i = 0; i < n; i++) x[i] = (x[i] - dot(L[i].slice(0, i), x.slice(0, i))) / L[i][i];
  for (let i = n - 1; i >= 0; i--) {
    for (let j = i + 1; j < n; j++) x[i] -= L[j][i] * x[j];
    x[i] /= L[i][i];
  }
  return x;
}

/** The least-energy law u = gain [x0, xT]; the gain has a row for each control. */
export const linear_law = (gain) => (x0, xT) => Float64Array.from(moved(gain, [...x0, ...xT]));

/** The same from A and B: u = C^T (C C^T)^-1 (xT - A^N x0). */
export function minimum_energy(A, B, horizon) {
  let power = A.map((_, i) => A.map((_, j) => Number(i === j))), blocks = [];
  for (let k = 0; k < horizon; k++) {
    blocks.unshift(product(power, B)); // A^k B
    power = product(A, power);
  }
  const C = A.map((_, i) => blocks.flatMap((each) => each[i])), gram = product(C, transposed(C));
  return (x0, xT) => {
    const drift = moved(power, x0), lambda = solved(gram, drift.map((value, i) => xT[i] - value));
    return Float64Array.from(moved(transposed(C), lambda));
  };
}

/**
 * The least-energy controls within limits, u = clip(C^T lambda) = clip(Q mu), by a damped semismooth Newton method
 * for mu, one number for each state. Its function of x0 and xT returns a ``verdict``: "out of reach", which is proved;
 * "undecided", next to the edge of what is within reach; or "solved", then with the ``controls``, the ``wanted`` ones
 * C^T lambda, ``lambda``, and which controls are ``at`` a limit: -1 the lower, 1 the upper, 0 none. Else ``controls``
 * is null.
 *
 * Q [N m, n] is orthogonal and R [n, n] triangular, C^T = Q R; drift is A^N; all controls are in a unit in which
 * their limits, low and high, are of size one. Q inward is below -1 where a control has no upper limit, above 1 where
 * it has no lower one.
 */
export function bounded_dual({ Q, R, drift, low, high, unit, inward }) {
  const n = R.length, N = Q.length, q = Float64Array.from(Q.flat());
  const room = () => ({ v: new Float64Array(N), u: new Float64Array(N), gradient: new Float64Array(n), value: 0 });
  const dual = (mu, b, into) => { // its value and its gradient; the least of it is the answer
    const { v, u, gradient } = into;
    let value = 0;
    for (let i = 0; i < n; i++) {
      gradient[i] = -b[i];
      value -= b[i] * mu[i];
    }
    for (let k = 0, at = 0; k < N; k++) {
      let wanted = 0;
      for (let i = 0; i < n; i++) wanted += q[at + i] * mu[i];
      const clipped = wanted < low[k] ? low[k] : wanted > high[k] ? high[k] : wanted;
      v[k] = wanted;
      u[k] = clipped;
      value += clipped * (wanted - clipped / 2);
      for (let i = 0; i < n; i++) gradient[i] += q[at++] * clipped;
    }
    into.value = value;
    return into;
  };
  const side = Float64Array.from(low, (each, k) => (high[k] === Infinity) - (each === -Infinity));
  const is_open = low.some((each, k) => each === -Infinity || high[k] === Infinity);
  const out_of_reach = (mu, b, { v }) => { // no u within the limits has as large a product with Q mu as b with mu
    if (is_open) { // Q mu needs the sign that keeps the product from growing without end
      if (!inward.some((each) => each !== 0)) return false;
      const wrong = v.reduce((most, each, k) => Math.max(most, each * side[k]), 0);
      const size = 1.000001 * (wrong + 1e-12 * (1 + length(mu)));
      mu = mu.map((each, i) => each + size * inward[i]);
      v = moved(Q, mu);
    }
    let largest = 0, sizes = 0;
    for (let k = 0; k < N; k++) {
      if (v[k] === 0) continue;
      const products = [v[k] * low[k], v[k] * high[k]];
      largest += Math.max(...products);
      sizes += Math.max(...products.map(Math.abs).filter(Number.isFinite));
    }
    sizes += b.reduce((sum, each, i) => sum + Math.abs(each * mu[i]), 0);
    return dot(b, mu) > largest + 1e-12 * sizes;
  };
  const hessian_of = ({ v }, damping) => {
    const hessian = R.map((_, i) => R.map((_, j) => (i === j ? damping : 0)));
    for (let k = 0; k < N; k++) {
      if (v[k] <= low[k] || v[k] >= high[k]) continue;
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) hessian[i][j] += q[k * n + i] * q[k * n + j];
    }
    return hessian;
  };
  return (x0, xT) => {
    const away = moved(drift, x0), b = Array.from(xT, (each, i) => each - away[i]);
    for (let i = 0; i < n; i++) { // R^T b = xT - A^N x0
      for (let j = 0; j < i; j++) b[i] -= R[j][i] * b[j];
      b[i] /= R[i][i];
    }
    let mu = b.slice(), now = dual(mu, b, room()), next = room();
    for (let step = 0; step < 200; step++) {
      const steepness = length(now.gradient);
      if (steepness <= 1e-13 * (1 + length(b))) break;
      if (out_of_reach(mu, b, now)) return { verdict: "out of reach", controls: null };
      const hessian = hessian_of(now, Math.min(Math.max(1e-3 * steepness, 1e-14), 1e-3));
      const change = solved(hessian, now.gradient.map((each) => -each)), slope = dot(now.gradient, change);
      let size = 1, tried;
      for (let halving = 0; halving < 40; halving++, size /= 2) {
        tried = mu.map((each, i) => each + size * change[i]);
        dual(tried, b, next);
        if (next.value <= now.value + 1e-4 * size * slope || length(next.gradient) <= 0.5 * steepness) break;
      }
      if (!(length(next.gradient) < steepness || next.value < now.value)) break; // rounding allows no better
      [mu, now, next] = [tried, next, now];
    }
    if (!(length(now.gradient) <= 1e-10 * (1 + length(b)))) return { verdict: "undecided", controls: null };
    const lambda = mu.map((each) => unit * unit * each);
    for (let i = n - 1; i >= 0; i--) { // R lambda = unit^2 mu
      for (let j = i + 1; j < n; j++) lambda[i] -= R[i][j] * lambda[j];
      lambda[i] /= R[i][i];
    }
    return { verdict: "solved", controls: now.u.map((each) => unit * each), wanted: now.v.map((each) => unit * each), lambda,
      at: Int8Array.from(now.v, (each, k) => (each <= low[k] ? -1 : each >= high[k] ? 1 : 0)) };
  };
}

/** The controls of `bounded_dual` alone, or null. */
export function bounded_minimum_energy(about) {
  const dual = bounded_dual(about);
  return (x0, xT) => dual(x0, xT).controls;
}
