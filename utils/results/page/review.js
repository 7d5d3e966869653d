// What was decided, kept by the browser: a log of batches, so that everything can be undone, also after a reload.
//
// A decision is "keep", "remove" or the number of the class to relabel to; null = not judged. Decisions belong to
// sample ids, not to rows: the page may be made again with more or fewer rows.

class Review {
  constructor(data) {
    this.data = data;
    this.key = `suspects:${data.experiment}:${data.fingerprint}`;
    this.rowOf = new Map(data.sample_id.map((id, row) => [id, row]));
    this.log = [];             // batches of [sample id, decision, decision before]
    this.decisions = new Map(); // sample id -> decision
    this.judged = 0;           // rows of this page
    this.downloaded = true;
    this.kept = true;          // whether the browser keeps it
    this.restore();
  }

  // Decisions on samples that this page does not show.
  get elsewhere() {
    return this.decisions.size - this.judged;
  }

  of(row) {
    return this.decisions.get(this.data.sample_id[row]) ?? null;
  }

  judge(row, decision) {
    this.apply([[this.data.sample_id[row], decision]]);
  }

  apply(changes) { // [sample id, decision] each, of samples that the page need not show
    const batch = [];
    for (const [id, decision] of changes) {
      const before = this.decisions.get(id) ?? null;
      if (before !== decision) batch.push([id, decision, before]);
    }
    if (!batch.length) return;
    this.log.push(batch);
    for (const [id, decision] of batch) this.set(id, decision);
    this.save();
  }

  // The row that changed last, or null where there is nothing to undo.
  undo() {
    const batch = this.log.pop();
    if (!batch) return null;
    for (const [id, , before] of batch.toReversed()) this.set(id, before);
    this.save();
    return this.rowOf.get(batch[0][0]) ?? null;
  }

  set(id, decision) {
    const change = (decision !== null) - this.decisions.has(id);
    if (decision === null) this.decisions.delete(id);
    else this.decisions.set(id, decision);
    if (this.rowOf.has(id)) this.judged += change;
  }

  save() {
    this.downloaded = false;
    try {
      localStorage.setItem(this.key, JSON.stringify(this.log));
    } catch { // switched off, or full
      this.kept = false;
    }
  }

  restore() {
    try {
      const log = JSON.parse(localStorage.getItem(this.key) ?? "[]");
      for (const batch of log) for (const [id, decision] of batch) this.set(id, decision);
      this.log = log;
      localStorage.setItem(`${this.key}:probe`, ""); // what is full can still be read
      localStorage.removeItem(`${this.key}:probe`);
    } catch {
      this.kept = false;
    }
  }

  // Another tab has decided something.
  readAgain() {
    if (!this.kept) return; // some of what was decided here lives here alone
    this.decisions.clear();
    [this.log, this.judged] = [[], 0];
    this.restore();
  }

  // Fields of review.csv, a row for every judged sample, worst first.
  rows() {
    const { sample_id, file, label, classes } = this.data;
    const found = [];
    sample_id.forEach((id, row) => {
      const decision = this.of(row);
      if (decision === null) return;
      const relabel = typeof decision === "number";
      found.push([id, file ? file[row] : "", classes[label[row]], relabel ? "relabel" : decision,
        relabel ? classes[decision] : ""]);
    });
    return found;
  }

  // Takes over what a review.csv says; all of it or, where a row is not this experiment's, nothing. Returns a message.
  load(text) {
    const { file, label, classes } = this.data;
    const [header, ...rows] = csvRows(text);
    if (!header || COLUMNS.some((name) => !header.includes(name))) {
      throw new Error(`its columns are not ${COLUMNS.join(", ")}`);
    }
    const changes = [], elsewhere = []; // of the rows of this page, which can be checked; of others
    const taken = () => changes.length > 0; // else it may be of anything
    rows.forEach((fields, k) => {
      const at = Object.fromEntries(header.map((name, i) => [name, fields[i] ?? ""]));
      const id = Number(at.sample_id), row = this.rowOf.get(id);
      if (!Number.isInteger(id)) throw new Error(`row ${k + 1} has no sample id`);
      if (row !== undefined && ((file ? file[row] : "") !== at.file || classes[label[row]] !== at.label)) {
        throw new Error(`row ${k + 1} is of another experiment`);
      }
      const decision = at.decision === "relabel" ? classes.indexOf(at.new_label) : at.decision;
      if (decision === -1 || !(typeof decision === "number" || ["keep", "remove"].includes(decision))) {
        throw new Error(`row ${k + 1} has no decision that this page knows`);
      }
      (row === undefined ? elsewhere : changes).push([id, decision]);
    });
    this.apply(taken() ? [...changes, ...elsewhere] : []);
    const rest = `${elsewhere.length} of samples that this page does not show`;
    return `${changes.length} decisions loaded` + (elsewhere.length ? `; ${rest}${taken() ? ", too" : " were left aside"}` : "");
  }
}
