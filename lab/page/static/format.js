// Numbers as text, with their units. Pure.

const DASH = "–";
const INTEGERS = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** @param {?number} n @returns {string} 12,345 */
export function integer(n) {
  return n === null || n === undefined || !Number.isFinite(n) ? DASH : INTEGERS.format(n);
}

/** @param {?number} n @param {number} [digits] @returns {string} 2.3456 */
export function decimal(n, digits = 4) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  return Math.abs(n) >= 1e6 || (n !== 0 && Math.abs(n) < 1e-4) ? n.toExponential(2) : n.toFixed(digits);
}

/** @param {?number} n @returns {string} three digits that count: 0.00123, 12.3, 1,230 */
export function short(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  const size = Math.abs(n);
  if (n === 0 || Number.isInteger(n)) return size < 1e9 ? integer(n) : n.toExponential(2);
  if (size >= 1000) return size < 1e9 ? integer(n) : n.toExponential(2);
  if (size < 1e-3) return n.toExponential(2);
  return n.toPrecision(3);
}

const BYTES = ["B", "kB", "MB", "GB", "TB"];

/** @param {number} n @returns {{name: string, size: number}} the unit in which n reads well */
export function byteUnit(n) {
  let at = 0;
  for (let size = Math.abs(n); size >= 1000 && at < BYTES.length - 1; size /= 1000) at += 1;
  return { name: BYTES[at], size: 1000 ** at };
}

/** @param {?number} n @returns {string} 68.9 kB */
export function bytes(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  const unit = byteUnit(n);
  const value = n / unit.size;
  return `${unit.size === 1 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${unit.name}`;
}

/** @param {?number} n of seconds @returns {string} 1.24 ms, 3.2 s, 4 min 10 s, 2 h 5 min */
export function duration(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  if (n < 0) return DASH;
  if (n < 1e-3) return `${Math.round(n * 1e6)} µs`;
  if (n < 1) return `${(n * 1e3).toPrecision(3)} ms`;
  if (n < 60) return `${n.toFixed(n < 10 ? 1 : 0)} s`;
  const whole = Math.round(n);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** @param {number} n seconds since a start @param {number} length of what is looked at
 * @returns {string} with as many digits as that makes sense of: 12.345 s */
export function moment(n, length) {
  const digits = Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(Math.max(length, 1e-6)))));
  if (n < 60) return `${n.toFixed(digits)} s`;
  if (length >= 600) return duration(n);
  return `${Math.floor(n / 60)} min ${(n % 60).toFixed(digits)} s`;
}

/** @param {?number} share from 0 to 1 @returns {string} 71 % */
export function percent(share) {
  return share === null || share === undefined || !Number.isFinite(share) ? DASH : `${Math.round(share * 100)} %`;
}

/** @param {?number} n @param {string} unit @returns {string} 25,300 documents/s */
export function rate(n, unit) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  return `${n >= 100 ? integer(n) : n.toPrecision(3)} ${unit}`;
}

/** @param {string} text @param {number} most @returns {string} cut, if it is longer */
export function cut(text, most) {
  const all = String(text);
  return all.length <= most ? all : `${all.slice(0, most - 1)}…`;
}

/** Names in the order that people expect: worker-2 before worker-10.
 * @param {string} a @param {string} b @returns {number} */
export const byName = new Intl.Collator("en", { numeric: true }).compare;
