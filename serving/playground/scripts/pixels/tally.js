// Counting: how many pixels lie above a threshold, and how a mask agrees with a labelled one, at every threshold at once.

const LEVELS = 65536;
export const WHITE = LEVELS - 1;
export const VOID = 2; // of a label's pixels: not to be counted

/** The highest 16-bit probability that is still background. */
export function lastBackground(threshold) {
  return Math.floor(threshold * WHITE);
}

/** Counts of a picture's values by level, summed from above, so that each threshold costs one look. */
export class Tally {
  /**
   * @param {Uint16Array | Uint8Array} values
   * @param {Uint8Array | null} truth 1 for foreground, 0 for background, `VOID`
   */
  constructor(values, truth = null) {
    const levels = values.BYTES_PER_ELEMENT === 1 ? 256 : LEVELS;
    this.levels = levels;
    this.size = values.length;
    this.counts = new Uint32Array(levels);
    this.trueCounts = new Uint32Array(levels);
    this.voidCounts = new Uint32Array(levels);
    const { counts, trueCounts, voidCounts } = this;
    for (let i = 0; i < values.length; i++) counts[values[i]]++;
    if (truth) {
      for (let i = 0; i < values.length; i++) {
        if (truth[i] === 1) trueCounts[values[i]]++;
        else if (truth[i] === VOID) voidCounts[values[i]]++;
      }
    }
    this.above = sumFromAbove(counts);
    this.trueAbove = sumFromAbove(trueCounts);
    this.voidAbove = sumFromAbove(voidCounts);
  }

  /** Returns how many pixels have a value above `last`. */
  area(last) {
    return this.above[last + 1];
  }

  /** Returns how a mask of the values above `last` agrees with the labelled one. */
  agreement(last) {
    const both = this.trueAbove[last + 1];
    const marked = this.above[last + 1] - this.voidAbove[last + 1];
    return scores(both, marked, this.trueAbove[0]);
  }

  /** Returns the threshold of the largest IoU, in hundredths, and that IoU. */
  best() {
    let best = { threshold: 0, iou: -1 };
    for (let hundredths = 0; hundredths < 100; hundredths++) {
      const { iou } = this.agreement(lastBackground(hundredths / 100));
      if (iou > best.iou + 1e-12) best = { threshold: hundredths / 100, iou };
    }
    return best;
  }
}

/** Returns how a mask that is given pixel by pixel (`isInside` by value) agrees with a labelled one. */
export function agreementOf(values, isInside, truth) {
  let both = 0;
  let marked = 0;
  let labelled = 0;
  for (let i = 0; i < values.length; i++) {
    if (truth[i] === VOID) continue;
    labelled += truth[i];
    if (isInside[values[i]]) {
      marked++;
      both += truth[i];
    }
  }
  return scores(both, marked, labelled);
}

function scores(both, marked, labelled) {
  const either = marked + labelled - both;
  return {
    iou: either ? both / either : 1,
    dice: marked + labelled ? (2 * both) / (marked + labelled) : 1,
    extra: marked - both,
    missed: labelled - both,
  };
}

function sumFromAbove(counts) {
  const sums = new Uint32Array(counts.length + 1);
  for (let level = counts.length - 1; level >= 0; level--) sums[level] = sums[level + 1] + counts[level];
  return sums;
}

/**
 * Compares the mask of the values above `last` with the server's own, where any value but 0 is foreground.
 * @returns how many pixels differ, how many of these do not even lie within a step of 16 bits of the threshold, and how
 *   many are foreground in the server's mask
 */
export function compareMasks(values, last, mask) {
  let differing = 0;
  let far = 0;
  let area = 0;
  for (let i = 0; i < values.length; i++) {
    if (mask[i] > 0) area++;
    if (values[i] > last !== mask[i] > 0) {
      differing++;
      if (Math.abs(values[i] - last) > 1) far++;
    }
  }
  return { differing, far, area };
}
