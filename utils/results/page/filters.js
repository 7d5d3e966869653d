// Which rows are shown: by p_noisy, by class, by pair, and by whether they are judged.

const MOST_PAIRS = 200; // in the table; rarer ones are found through the two lists
const BINS = 40;        // of the histogram

class Filters {
  constructor(data, review, onChange) {
    Object.assign(this, { data, review, onChange });
    // The slider begins where the data do.
    this.low = data.p_noisy.reduce((low, p) => Math.min(low, Math.floor(20 * p) / 20), 0.95);
    byId("threshold").min = this.low;
    this.everything = { threshold: this.low, given: null, suggested: null, judged: "all" };
    this.wanted = { ...this.everything };
    this.fillChoices();
    this.drawHistogram();
    const set = (change) => { Object.assign(this.wanted, change); onChange(); };
    const classOf = (value) => (value === "" ? null : Number(value));
    byId("threshold").addEventListener("input", (event) => set({ threshold: Number(event.target.value) }));
    byId("given").addEventListener("change", (event) => set({ given: classOf(event.target.value) }));
    byId("suggested").addEventListener("change", (event) => set({ suggested: classOf(event.target.value) }));
    byId("judged").addEventListener("change", (event) => set({ judged: event.target.value }));
    const reset = () => set(this.everything);
    byId("reset").addEventListener("click", reset);
    byId("empty-reset").addEventListener("click", reset);
  }

  fillChoices() {
    for (const column of ["given", "suggested"]) {
      const labels = this.data[column === "given" ? "label" : "suggested"];
      const present = [...new Set(labels)].sort((a, b) => a - b);
      const options = present.map((c) => new Option(this.data.classes[c], c));
      byId(column).replaceChildren(new Option("any class", ""), ...options);
    }
  }

  drawHistogram() {
    const counts = new Array(BINS).fill(0);
    const bin = (p) => Math.floor((BINS * (p - this.low)) / (1 - this.low));
    for (const p of this.data.p_noisy) counts[Math.max(0, Math.min(BINS - 1, bin(p)))]++;
    const most = Math.max(1, ...counts);
    byId("histogram").replaceChildren(...counts.map((count) => {
      const bar = document.createElement("i");
      bar.style.height = `${count ? Math.max(6, 100 * Math.sqrt(count / most)) : 0}%`;
      return bar;
    }));
  }

  clear() {
    Object.assign(this.wanted, this.everything);
  }

  // Rows of the data, worst first.
  view() {
    const { threshold, given, suggested, judged } = this.wanted;
    const { p_noisy, label, suggested: suggestions } = this.data;
    const found = [];
    for (let row = 0; row < p_noisy.length; row++) {
      if (p_noisy[row] < threshold) continue;
      if (given !== null && label[row] !== given) continue;
      if (suggested !== null && suggestions[row] !== suggested) continue;
      if (judged !== "all" && (this.review.of(row) === null) !== (judged === "open")) continue;
      found.push(row);
    }
    return found;
  }

  draw(count) {
    const { threshold, given, suggested, judged } = this.wanted;
    byId("threshold").value = threshold;
    byId("threshold-value").textContent = threshold.toFixed(2);
    byId("given").value = given ?? "";
    byId("suggested").value = suggested ?? "";
    byId("judged").value = judged;
    [...byId("histogram").children].forEach((bar, k) =>
      bar.classList.toggle("below", this.low + ((k + 1) / BINS) * (1 - this.low) <= threshold));
    const active = [threshold > this.low, given !== null, suggested !== null, judged !== "all"].filter(Boolean).length;
    byId("active-filters").textContent = active ? `(${active} set)` : "";
    byId("reset").disabled = !active;
    byId("count").textContent = `${number(count)} shown of ${number(this.data.rank.length)}, worst first`;
    this.drawPairs();
  }

  // Counts of the suspects that the slider leaves, the largest first; a click shows that pair alone, another one takes
  // it back.
  drawPairs() {
    const { p_noisy, label, suggested, classes, suspect_from } = this.data;
    const counts = new Map(), least = Math.max(this.wanted.threshold, suspect_from);
    for (let row = 0; row < p_noisy.length; row++) {
      if (p_noisy[row] < least) continue;
      const pair = label[row] * classes.length + suggested[row];
      counts.set(pair, (counts.get(pair) ?? 0) + 1);
    }
    const pairs = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    const most = pairs.length ? pairs[0][1] : 1;
    const items = pairs.slice(0, MOST_PAIRS).map(([pair, count]) =>
      this.pairItem(Math.floor(pair / classes.length), pair % classes.length, count, most));
    if (pairs.length > MOST_PAIRS) {
      items.push(element("li", { className: "more", textContent: `and ${number(pairs.length - MOST_PAIRS)} rarer pairs` }));
    }
    // The table is drawn anew; whoever went through it by keyboard stays where they were.
    const focused = byId("pairs").contains(document.activeElement) ? document.activeElement.dataset.pair : null;
    byId("pairs").replaceChildren(...items);
    if (focused) byId("pairs").querySelector(`[data-pair="${focused}"]`)?.focus();
  }

  pairItem(given, suggested, count, most) {
    const name = (c) => element("bdi", { textContent: this.data.classes[c] });
    const pressed = this.wanted.given === given && this.wanted.suggested === suggested;
    const button = element("button", { type: "button" }, name(given),
      element("span", { textContent: "→", ariaHidden: "true" }), name(suggested),
      element("b", { textContent: number(count) }));
    button.dataset.pair = `${given}-${suggested}`;
    button.setAttribute("aria-pressed", pressed);
    button.setAttribute("aria-label",
      `${this.data.classes[given]}, suggested ${this.data.classes[suggested]}: ${count}`);
    button.style.setProperty("--share", count / most);
    button.addEventListener("click", () => {
      Object.assign(this.wanted, pressed ? { given: null, suggested: null }
        : { given, suggested, threshold: Math.max(this.wanted.threshold, this.data.suspect_from) });
      this.onChange();
    });
    return element("li", {}, button);
  }
}
