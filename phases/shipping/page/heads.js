// Last layers of a few examples: means, ridge and logistic regression, and which of them to take, by the formulas and
// constants of teaching.py and declining.py in phases/shipping. u: directions, n rows of c numbers; labels: their
// classes, 0 to K - 1; round: in which each example is left out, -1: never. logits = weight u + bias.
//
// Pure functions, no browser. A matrix is an array of rows.

const STEPS = 30, ROUNDS = 10, MANY = 5, TIE = 0.01, LOWEST = 1e-3, HIGHEST = 10, DOUBT = 0.002; // of teaching.py
const HEADS = [["means", 0], ["ridge", 0.1], ["ridge", 0.03], ["logistic", 0.03], ["logistic", 0.01],
  ["logistic", 0.003]]; // the simplest first
const USUAL = HEADS[4];

// ---------------------------------------------------------------------------------------------------------------------
// Vectors and matrices
// ---------------------------------------------------------------------------------------------------------------------

export const dot = (a, b) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};
const zeros = (rows, columns) => Array.from({ length: rows }, () => new Array(columns).fill(0));
const transposed = (a) => a[0].map((_, j) => a.map((row) => row[j]));

/** a b */
function product(a, b) {
  const columns = transposed(b);
  return a.map((row) => columns.map((column) => dot(row, column)));
}

/** A vector at length 1; one of zeros stays as it is. */
export function unit(vector) {
  const length = Math.max(Math.sqrt(dot(vector, vector)), 1e-12);
  return Array.from(vector, (value) => value / length);
}

/** The mean direction of directions. */
export const meanOf = (directions) => unit(transposed(directions).map((values) => values.reduce((a, b) => a + b, 0)));

/** x of a x = b, a regular: Gauss and Jordan's elimination. */
function solved(a, b) {
  const n = a.length, rows = a.map((row, i) => [...row, ...b[i]]);
  for (let k = 0; k < n; k++) {
    let best = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(rows[i][k]) > Math.abs(rows[best][k])) best = i;
    [rows[k], rows[best]] = [rows[best], rows[k]];
    const pivot = rows[k][k];
    for (let j = k; j < rows[k].length; j++) rows[k][j] /= pivot;
    for (let i = 0; i < n; i++) {
      const factor = rows[i][k];
      if (i === k || !factor) continue;
      for (let j = k; j < rows[k].length; j++) rows[i][j] -= factor * rows[k][j];
    }
  }
  return rows.map((row) => row.slice(n));
}

/** Orthonormal rows that span the directions: in them all is the same, of fewer numbers. */
export function spanOf(u) {
  const basis = [];
  for (const row of u) {
    let rest = [...row];
    for (let twice = 0; twice < 2; twice++) { // once is not exact enough for near copies
      for (const axis of basis) {
        const along = dot(rest, axis);
        rest = rest.map((value, i) => value - along * axis[i]);
      }
    }
    if (dot(rest, rest) > 1e-20) basis.push(unit(rest));
  }
  return basis;
}

/** Logarithms of the probabilities of logits. */
function softened(logits) {
  const most = Math.max(...logits), total = logits.reduce((sum, value) => sum + Math.exp(value - most), 0);
  return logits.map((value) => value - most - Math.log(total));
}

// ---------------------------------------------------------------------------------------------------------------------
// Fitting
// ---------------------------------------------------------------------------------------------------------------------

/** Weights that let all classes count alike; 0 of an example that is not counted. */
function balanced(labels, K, isCounted) {
  const ofClass = new Array(K).fill(0);
  labels.forEach((k, i) => { ofClass[k] += isCounted(i); });
  const number = ofClass.reduce((a, b) => a + b, 0) / ofClass.filter(Boolean).length;
  return labels.map((k, i) => (isCounted(i) ? number / ofClass[k] : 0));
}

const penalty = (size, strength) => Array.from({ length: size }, (_, i) => (i < size - 1 ? strength : 1e-6));
const oneHot = (labels, K) => labels.map((k) => Array.from({ length: K }, (_, j) => Number(j === k)));

/** factor x' diag(d) x + diag(penalty) */
function curvature(x, d, factor, ridges) {
  const found = zeros(ridges.length, ridges.length);
  x.forEach((row, n) => row.forEach((a, i) => {
    const share = factor * d[n] * a;
    for (let j = 0; j < row.length; j++) found[i][j] += share * row[j];
  }));
  ridges.forEach((value, i) => { found[i][i] += value; });
  return found;
}

/** x' of the residuals r, each times its weight. */
const pulled = (x, d, r) => product(transposed(x), r.map((row, n) => row.map((value) => d[n] * value)));

/** Weights and, in the last row, biases of a head for rows x, whose last number is 1. */
export function solution([kind, strength], x, labels, K, isCounted) {
  const D = x[0].length, y = oneHot(labels, K), d = balanced(labels, K, isCounted), ridges = penalty(D, strength);
  if (kind === "means") {
    const own = (k) => meanOf(x.filter((_, n) => labels[n] === k && isCounted(n)).map((row) => row.slice(0, -1)));
    const shown = new Set(labels.filter((_, n) => isCounted(n)));
    return transposed(y[0].map((_, k) => [...(shown.has(k) ? own(k) : new Array(D - 1).fill(0)), 0]));
  }
  if (kind === "ridge") return solved(curvature(x, d, 1, ridges), pulled(x, d, y));

  // logistic: a quadratic bound of the loss (Böhning 1992), with Nesterov's momentum
  const bound = curvature(x, d, 0.5, ridges), unitMatrix = ridges.map((_, i) => ridges.map((_, j) => Number(i === j)));
  const step = solved(bound, unitMatrix);
  let w = zeros(D, K), ahead = w, t = 1;
  for (let i = 0; i < STEPS; i++) {
    const wrong = product(x, ahead).map((row, n) => softened(row).map((value, k) => Math.exp(value) - y[n][k]));
    const slope = pulled(x, d, wrong).map((row, r) => row.map((value, k) => value + ridges[r] * ahead[r][k]));
    const down = product(step, slope), found = ahead.map((row, r) => row.map((value, k) => value - down[r][k]));
    const later = (1 + Math.sqrt(1 + 4 * t * t)) / 2, momentum = (t - 1) / later;
    ahead = found.map((row, r) => row.map((value, k) => value + momentum * (value - w[r][k])));
    w = found;
    t = later;
  }
  return w;
}

/** Logits of each example by the head that the others of its round did not teach; null in round -1. */
export function leaveOut(head, x, labels, K, rounds) {
  const logits = labels.map(() => null);
  for (let round = 0; round <= Math.max(...rounds); round++) {
    const part = rounds.flatMap((r, n) => (r === round ? [n] : []));
    const found = head[0] === "ridge" ? withoutPart(head, x, labels, K, part) :
      product(part.map((n) => x[n]), solution(head, x, labels, K, (n) => rounds[n] !== round));
    part.forEach((n, i) => { logits[n] = found[i]; });
  }
  return logits;
}

/** Ridge without a part, by the weights that balance all: as teaching.py solves it. */
function withoutPart([, strength], x, labels, K, part) {
  const y = oneHot(labels, K), out = new Set(part), all = balanced(labels, K, () => 1);
  const d = all.map((weight, n) => (out.has(n) ? 0 : weight));
  const found = solved(curvature(x, d, 1, penalty(x[0].length, strength)), pulled(x, d, y));
  return product(part.map((n) => x[n]), found);
}

// ---------------------------------------------------------------------------------------------------------------------
// The choice
// ---------------------------------------------------------------------------------------------------------------------

/** In which round each example is left out: one of each class that has several at a time. */
export function roundsOf(labels, K) {
  const seen = new Array(K).fill(0), number = new Array(K).fill(0);
  labels.forEach((k) => { number[k] += 1; });
  return labels.map((k) => (number[k] > 1 ? seen[k]++ % ROUNDS : -1));
}

/** The T at which softmax(logits / T) is likeliest; a share `doubt` of each label counts for all classes alike. */
function temperatureOf(logits, labels, doubt) {
  const wanted = logits.map((row, n) => (1 - doubt) * row[labels[n]] +
    (doubt * row.reduce((a, b) => a + b, 0)) / row.length);
  const slope = (inverse) => logits.reduce((sum, row, n) => sum - wanted[n] +
    softened(row.map((value) => inverse * value)).reduce((mean, value, k) => mean + Math.exp(value) * row[k], 0), 0);
  let low = 1 / HIGHEST, high = 1 / LOWEST;
  for (let i = 0; i < 60; i++) {
    const middle = Math.sqrt(low * high);
    if (slope(middle) < 0) low = middle;
    else high = middle;
  }
  return 1 / low;
}

/**
 * The last layer of examples: {weight, bias, temperature, named}; named: the class that each example is given while it
 * is left out, null where nothing tells. The simplest head of those that are surest of the right class, of many
 * examples; few cannot choose.
 */
export function lastLayer(u, labels, K) {
  const basis = spanOf(u), x = u.map((row) => [...basis.map((axis) => dot(row, axis)), 1]);
  const rounds = roundsOf(labels, K), told = rounds.flatMap((round, n) => (round >= 0 ? [n] : []));
  let head = K === 1 ? HEADS[0] : USUAL, temperature = 1, best = -Infinity;
  let named = labels.map((k, n) => (K === 1 && rounds[n] >= 0 ? k : null));
  for (const other of K === 1 || !told.length ? [] : told.length >= MANY * K ? HEADS : [USUAL]) {
    const logits = leaveOut(other, x, labels, K, rounds), own = told.map((n) => labels[n]);
    const T = temperatureOf(told.map((n) => logits[n]), own, 1 / (told.length + 2));
    const logs = told.map((n) => softened(logits[n].map((value) => value / T))[labels[n]]);
    const sure = logs.reduce((a, b) => a + b) / logs.length;
    if (sure <= best + TIE) continue;
    best = sure;
    head = other;
    temperature = T;
    named = logits.map((row) => row && row.indexOf(Math.max(...row)));
  }

  // out of the span
  const found = solution(head, x, labels, K, () => 1), bias = found.at(-1);
  if (K > 1 && !told.length) temperature = temperatureOf(product(x, found), labels, DOUBT);
  const weight = transposed(found.slice(0, -1)).map((row) => transposed(basis).map((column) => dot(column, row)));
  return { weight, bias, temperature, named };
}

/** The probabilities of a direction. */
export const probabilities = ({ weight, bias, temperature }, d) =>
  softened(weight.map((row, k) => (dot(row, d) + bias[k]) / temperature)).map(Math.exp);
