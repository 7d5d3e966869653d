// Puts the page together: data, review, filters, grid, the chosen sample, the class chooser and the keys.

function byId(id) {
  return document.getElementById(id);
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function number(value) {
  return value.toLocaleString("en").replaceAll(",", "\u202f"); // narrow spaces between thousands
}

function percent(value) {
  return `${Math.round(100 * value)}\u202f%`;
}

function probability(p) { // never above a threshold that it does not reach
  return (Math.floor(100 * p + 1e-6) / 100).toFixed(2);
}

const data = JSON.parse(byId("data").textContent);
const pictures = JSON.parse(byId("pictures").textContent);
const known = data.true_label !== null;
const review = new Review(data);
const lines = 2 + known + (data.file !== null); // of text under a card's picture
const grid = new Grid(byId("grid"), byId("canvas"), lines, card, (position) => choose(position));
const filters = new Filters(data, review, () => refresh(grid.row));
const twins = new Twins(data, review, (row) => {
  if (!grid.view.includes(row)) filters.clear();
  refresh(row);
});

// -- names and words ----------------------------------------------------------------------------------------------

function className(c) {
  return c < 0 ? "none of the classes" : data.classes[c];
}

function source(row) {
  return data.uri + pictures[row];
}

function verdict(row) { // what was decided, in a word or two
  const decision = review.of(row);
  return typeof decision === "number" ? `→ ${className(decision)}` : decision ?? "";
}

function isOther(row) { // whether it was relabelled as another class than the suggested one
  return typeof review.of(row) === "number" && review.of(row) !== data.suggested[row];
}

function kind(decision) {
  return typeof decision === "number" ? "relabel" : decision ?? "";
}

function inWords(row) { // what a screen reader says of a card
  const words = [`rank ${data.rank[row]}`, `label ${className(data.label[row])}`,
    `suggested ${className(data.suggested[row])} ${percent(data.confidence[row])}`,
    `p_noisy ${probability(data.p_noisy[row])}`];
  if (data.file) words.push(data.file[row]);
  if (known) words.push(`true label ${className(data.true_label[row])}`);
  words.push(review.of(row) === null ? "not judged" : `judged: ${verdict(row)}`);
  return words.join(", ");
}

function pixelated(image) { // tiny images stay what they are, larger ones are smoothed
  image.classList.toggle("pixelated", Math.max(image.naturalWidth, image.naturalHeight) <= 16);
}

// -- a card ---------------------------------------------------------------------------------------------------------

function card(row) {
  const image = element("img", { src: source(row), alt: "", draggable: false });
  image.addEventListener("load", () => pixelated(image));
  const decision = review.of(row), named = (text) => element("bdi", { textContent: text, title: text });
  const name = (c) => named(className(c));
  const made = element("div", { className: `card ${kind(decision)} ${data.p_noisy[row] < data.suspect_from ? "no-suspect" : ""} ${isOther(row) ? "other" : ""}` },
    element("div", { className: "frame" }, image),
    element("span", { className: "badge rank", textContent: `#${data.rank[row]}` }),
    element("div", { className: "line given" }, name(data.label[row]),
      element("small", { textContent: `p ${probability(data.p_noisy[row])}`, title: "p_noisy" })),
    element("div", { className: "line suggested" }, element("span", { textContent: "→" }), name(data.suggested[row]),
      element("small", { textContent: percent(data.confidence[row]), title: "confidence" })));
  if (known) {
    made.append(element("div", { className: "line true" }, element("span", { textContent: "true:" }), name(data.true_label[row])));
  }
  if (data.file) {
    made.append(element("div", { className: "line file" }, element("bdi", { textContent: shortFile(row), title: data.file[row] })));
  }
  if (decision !== null) {
    made.append(element("span", { className: "badge verdict" }, element("bdi", { textContent: verdict(row) })));
  }
  made.setAttribute("role", "option");
  made.setAttribute("aria-label", inWords(row));
  return made;
}

function shortFile(row) { // its last part; the whole path stands beside the large picture
  return data.file[row].split("/").at(-1);
}

// -- the chosen sample ------------------------------------------------------------------------------------------------

function inspect() {
  const row = grid.row, some = row !== null;
  twins.draw(row);
  byId("inspector").classList.toggle("nothing", !some);
  for (const id of ["keep", "relabel", "other", "remove"]) byId(id).disabled = !some;
  if (!some) return;
  const image = byId("picture");
  image.src = source(row);
  image.alt = data.file ? data.file[row] : `sample ${data.sample_id[row]}`;
  byId("rank").textContent = `#${data.rank[row]}`;
  byId("file").textContent = image.alt;
  byId("fact-given").textContent = className(data.label[row]);
  byId("fact-suggested").textContent = className(data.suggested[row]);
  byId("confidence").textContent = percent(data.confidence[row]);
  byId("fact-p").textContent = probability(data.p_noisy[row]);
  byId("bar").style.width = `${100 * data.p_noisy[row]}%`;
  byId("truth").hidden = !known;
  if (known) byId("fact-truth").textContent = className(data.true_label[row]);
  showDecision(row);
}

function showDecision(row) {
  const decision = review.of(row), suggested = data.suggested[row];
  const asSuggested = decision === suggested, other = isOther(row);
  byId("keep").setAttribute("aria-pressed", decision === "keep");
  byId("relabel").setAttribute("aria-pressed", asSuggested);
  byId("other").setAttribute("aria-pressed", other);
  byId("remove").setAttribute("aria-pressed", decision === "remove");
  byId("keep-name").textContent = className(data.label[row]);
  byId("relabel-name").textContent = className(suggested);
  byId("other-name").textContent = other ? className(decision) : "";
}

// -- doing ------------------------------------------------------------------------------------------------------------

// Shows what the filters leave; the cursor stays with `row` or, where that is gone, in its place.
function refresh(row) {
  const view = filters.view(), position = row === null ? 0 : view.indexOf(row);
  grid.show(view, position < 0 ? firstAfter(view, row) : position);
  filters.draw(view.length);
  byId("empty").hidden = view.length > 0;
  progress();
  inspect();
}

function firstAfter(view, row) {
  const position = view.findIndex((other) => other > row);
  return position < 0 ? view.length - 1 : position;
}

function progress() {
  const total = data.rank.length;
  byId("progress").textContent = `${number(review.judged)} of ${number(total)} judged`;
  byId("meter").setAttribute("aria-valuemax", total);
  byId("meter").setAttribute("aria-valuenow", review.judged);
  byId("meter").firstElementChild.style.width = `${total ? (100 * review.judged) / total : 0}%`;
  byId("undo").disabled = !review.log.length;
  byId("download").disabled = !review.judged;
  byId("notice").hidden = review.kept && !review.elsewhere;
  byId("notice").textContent = review.kept
    ? `${number(review.elsewhere)} more of your decisions are of samples that this page does not show: review.csv goes without them. A page with more samples (utils.page, --report) has them again.`
    : "This browser does not keep what you decide here: download review.csv before you close or reload the page.";
}

function say(text) {
  byId("status").textContent = text;
}

function choose(position) {
  grid.moveTo(position);
  inspect();
}

// Takes a decision and goes on to the next sample; one that was there already is taken back instead, where wanted.
function judge(decision, takesBack = true) {
  const row = grid.row;
  if (row === null) return;
  const again = takesBack && review.of(row) === decision;
  review.judge(row, again ? null : decision);
  say(`#${data.rank[row]} ${again ? "not judged" : verdict(row)}`);
  if (filters.wanted.judged !== "all") return refresh(row);
  grid.redraw(row);
  if (!again) grid.moveTo(grid.cursor + 1);
  progress();
  inspect();
}

function relabelAsSuggested() {
  if (grid.row !== null) judge(data.suggested[grid.row]);
}

function undo() {
  if (!review.log.length) return;
  const row = review.undo();
  refresh(row ?? grid.row);
  say(row === null ? "undone, of a sample that this page does not show" : "undone");
}

function nextOpen() {
  const after = [...grid.view.keys()].filter((position) => review.of(grid.view[position]) === null);
  const next = after.find((position) => position > grid.cursor) ?? after[0];
  if (next === undefined) say("everything shown here is judged");
  else choose(next);
}

function download() {
  const url = URL.createObjectURL(new Blob([csvText(review.rows())], { type: "text/csv;charset=utf-8" }));
  element("a", { href: url, download: "review.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  review.downloaded = true;
  say(`review.csv: ${review.judged} decisions`);
}

async function load(file) {
  try {
    say(`${file.name}: ${review.load(await file.text())}`);
  } catch (error) {
    say(`${file.name} was not loaded: ${error.message}`);
  }
  refresh(grid.row);
}

// -- another class ----------------------------------------------------------------------------------------------------

const chooser = { dialog: byId("chooser"), text: byId("chooser-text"), list: byId("chooser-list"), found: [], at: 0 };

function openChooser() {
  if (grid.row === null) return;
  chooser.text.value = "";
  narrow();
  chooser.dialog.showModal();
  chooser.text.focus();
}

function narrow() {
  const wanted = chooser.text.value.trim().toLowerCase(), given = data.label[grid.row];
  const starts = [], contains = [];
  data.classes.forEach((name, c) => {
    const place = name.toLowerCase().indexOf(wanted);
    if (c !== given && place >= 0) (place === 0 ? starts : contains).push(c);
  });
  chooser.found = [...starts, ...contains];
  chooser.at = 0;
  chooser.list.replaceChildren(...chooser.found.map((c, k) => {
    const item = element("li", { id: `class-${c}` }, element("bdi", { textContent: data.classes[c] }));
    item.setAttribute("role", "option");
    item.addEventListener("click", () => take(k));
    return item;
  }));
  highlight();
}

function highlight() {
  [...chooser.list.children].forEach((item, k) => item.setAttribute("aria-selected", k === chooser.at));
  const chosen = chooser.list.children[chooser.at];
  chosen?.scrollIntoView({ block: "nearest" });
  chooser.text.setAttribute("aria-activedescendant", chosen?.id ?? "");
}

function take(k) {
  const c = chooser.found[k];
  if (c === undefined) return;
  chooser.dialog.close();
  judge(c, false);
}

chooser.text.addEventListener("input", narrow);
chooser.text.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], many = chooser.found.length;
  if (event.key === "Enter") take(chooser.at);
  else if (step && many) { chooser.at = (chooser.at + step + many) % many; highlight(); }
  else return;
  event.preventDefault();
});
chooser.dialog.addEventListener("click", (event) => { if (event.target === chooser.dialog) chooser.dialog.close(); });
chooser.dialog.addEventListener("close", () => byId("grid").focus());

// -- keys and buttons -------------------------------------------------------------------------------------------------

const DECIDE = { k: () => judge("keep"), r: relabelAsSuggested, o: openChooser, x: () => judge("remove"),
  Delete: () => judge("remove"), u: undo, n: nextOpen };
const MOVE = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -grid.columns, ArrowDown: () => grid.columns,
  PageUp: () => -grid.linesOnScreen * grid.columns, PageDown: () => grid.linesOnScreen * grid.columns,
  Home: () => -grid.view.length, End: () => grid.view.length };

document.addEventListener("keydown", (event) => {
  if (chooser.dialog.open || event.altKey) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key.toLowerCase() === "z" && !event.shiftKey) { undo(); event.preventDefault(); }
    return;
  }
  if (event.target.matches("select, input:not([type=range])")) return; // there letters and arrows have a meaning
  const move = byId("filters").contains(event.target) ? undefined : MOVE[event.key];
  const decide = DECIDE[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!move && !decide) return;
  event.preventDefault();
  if (move) choose(grid.cursor + move());
  else decide();
});

for (const [id, does] of Object.entries({ keep: DECIDE.k, relabel: DECIDE.r, other: DECIDE.o, remove: DECIDE.x, undo, download })) {
  byId(id).addEventListener("click", does);
}
byId("load").addEventListener("change", (event) => {
  if (event.target.files.length) load(event.target.files[0]);
  event.target.value = ""; // the same file may be loaded again
});
byId("picture").addEventListener("load", (event) => pixelated(event.target));
window.addEventListener("storage", (event) => {
  if (event.key !== review.key) return;
  review.readAgain();
  refresh(grid.row);
});
window.addEventListener("beforeunload", (event) => { if (!review.kept && !review.downloaded) event.preventDefault(); });

byId("summary").append(`${number(data.rank.length)} of ${number(data.samples)} samples`,
  element("span", { textContent: `, ${number(data.suspects)} suspects` }));
const command = document.querySelector(".next code"); // its words apart, so that a line ends between them alone
command.replaceChildren(...command.textContent.split(" ").flatMap((word) => [element("span", { textContent: word }), " "]));
if (matchMedia("(max-width: 60rem)").matches) byId("filters").open = byId("twins").open = false;
refresh(null);
byId("grid").focus({ preventScroll: true });
document.documentElement.dataset.ready = "";
