// Figures in Prometheus' text format, and what follows from two readings of them.

/** The samples of a text: [{name, labels, value}]. */
export function parse(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
    }
    found.push({ name: match[1], labels, value: Number(match[3].replace("+Inf", "Infinity")) });
  }
  return found;
}

const fits = (labels, wanted) => Object.entries(wanted).every(([name, value]) => labels[name] === value);

/** One reading of all figures. */
export class Reading {
  constructor(text, time) {
    this.time = time;
    this.samples = parse(text);
  }

  /** The sum of the samples of a name whose labels fit. */
  sum(name, wanted = {}) {
    let total = 0;
    for (const sample of this.samples) if (sample.name === name && fits(sample.labels, wanted)) total += sample.value;
    return total;
  }

  has(name) {
    return this.samples.some((sample) => sample.name === name);
  }

  /** The sums by the values of a label. */
  by(name, label, wanted = {}) {
    const found = new Map();
    for (const sample of this.samples) {
      if (sample.name !== name || !fits(sample.labels, wanted)) continue;
      const value = sample.labels[label] ?? "";
      found.set(value, (found.get(value) ?? 0) + sample.value);
    }
    return found;
  }

  /** The buckets of a histogram, [[upper bound, count up to it]], the smallest first. */
  buckets(name, wanted = {}) {
    const found = new Map();
    for (const { name: each, labels, value } of this.samples) {
      if (each !== `${name}_bucket` || !fits(labels, wanted)) continue;
      const bound = Number(labels.le.replace("+Inf", "Infinity"));
      found.set(bound, (found.get(bound) ?? 0) + value);
    }
    return [...found].sort(([one], [other]) => one - other);
  }
}

/** How much a sum grew between two readings; a proxy that began anew counts from nothing. */
export function growth(before, after, name, wanted) {
  const [from, to] = [before.sum(name, wanted), after.sum(name, wanted)];
  return to >= from ? to - from : to;
}

/** A quantile of what came between two readings, as Prometheus estimates it; null where nothing came. */
export function quantile(share, before, after, name, wanted) {
  const earlier = new Map(before.buckets(name, wanted));
  const counts = after
    .buckets(name, wanted)
    .map(([bound, count]) => [bound, Math.max(count - (earlier.get(bound) ?? 0), 0)]);
  const total = counts.at(-1)?.[1] ?? 0;
  if (!total) return null;
  const rank = share * total;
  let [low, below] = [0, 0];
  for (const [bound, count] of counts) {
    if (count >= rank) return bound === Infinity ? low : low + ((bound - low) * (rank - below)) / (count - below || 1);
    [low, below] = [bound, count];
  }
  return low;
}
