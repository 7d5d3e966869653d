// The cards: of thousands only those on the screen are in the document.

// css pixels: least width, space between cards, height of a line of text; lines drawn beyond
// the edge of the screen
const CARD = { least: 152, gap: 10, line: 21, beyond: 2 };

class Grid {
  constructor(list, canvas, lines, fill, onChoose) {
    Object.assign(this, { list, canvas, lines, fill });
    this.view = [];        // rows of the data, in the order shown
    this.cursor = 0;       // position in the view
    this.cards = new Map(); // position -> element
    list.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()), { passive: true });
    canvas.addEventListener("click", (event) => {
      const card = event.target.closest(".card");
      if (card) onChoose(Number(card.dataset.position));
    });
    new ResizeObserver(() => this.layOut()).observe(list);
  }

  get row() {
    return this.view.length ? this.view[this.cursor] : null;
  }

  show(view, cursor) {
    this.view = view;
    this.cursor = Math.max(0, Math.min(cursor, view.length - 1));
    this.layOut();
    this.reveal();
  }

  layOut() {
    const width = this.canvas.clientWidth;
    this.columns = Math.max(1, Math.floor((width + CARD.gap) / (CARD.least + CARD.gap)));
    this.width = (width - (this.columns - 1) * CARD.gap) / this.columns;
    this.height = this.width + this.lines * CARD.line + 4; // the picture is square
    this.canvas.style.height = `${Math.max(0, Math.ceil(this.view.length / this.columns) * this.step - CARD.gap)}px`;
    for (const card of this.cards.values()) card.remove();
    this.cards.clear();
    this.draw();
  }

  get step() {
    return this.height + CARD.gap;
  }

  draw() {
    const top = this.list.scrollTop, bottom = top + this.list.clientHeight;
    const first = Math.max(0, Math.floor(top / this.step) - CARD.beyond) * this.columns;
    const last = Math.min(this.view.length, (Math.ceil(bottom / this.step) + CARD.beyond) * this.columns);
    for (const [position, card] of this.cards) {
      if (position < first || position >= last) { card.remove(); this.cards.delete(position); }
    }
    for (let position = first; position < last; position++) {
      if (!this.cards.has(position)) this.add(position);
    }
    this.mark();
  }

  add(position) {
    const card = this.fill(this.view[position]);
    card.id = `card-${position}`;
    card.dataset.position = position;
    card.style.width = `${this.width}px`;
    card.style.height = `${this.height}px`;
    const column = position % this.columns, line = Math.floor(position / this.columns);
    card.style.transform = `translate(${column * (this.width + CARD.gap)}px, ${line * this.step}px)`;
    card.setAttribute("aria-posinset", position + 1);
    card.setAttribute("aria-setsize", this.view.length);
    this.cards.set(position, card);
    // In their order, which is the order in which a screen reader goes through them.
    const next = this.cards.get(position + 1);
    this.canvas.insertBefore(card, next ?? null);
  }

  mark() {
    for (const [position, card] of this.cards) card.setAttribute("aria-selected", position === this.cursor);
    const chosen = this.cards.get(this.cursor);
    if (chosen) this.list.setAttribute("aria-activedescendant", chosen.id);
    else this.list.removeAttribute("aria-activedescendant");
  }

  moveTo(position) {
    this.cursor = Math.max(0, Math.min(position, this.view.length - 1));
    this.reveal();
    this.draw();
  }

  // Scrolls no further than it takes to see the chosen card whole.
  reveal() {
    const top = Math.floor(this.cursor / this.columns) * this.step, room = this.list.clientHeight;
    const pad = 2 * CARD.gap;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + this.height + pad > this.list.scrollTop + room) this.list.scrollTop = top + this.height + pad - room;
  }

  get linesOnScreen() {
    return Math.max(1, Math.floor(this.list.clientHeight / this.step));
  }

  redraw(row) {
    const position = this.view.indexOf(row);
    const card = this.cards.get(position);
    if (!card) return;
    card.remove();
    this.cards.delete(position);
    this.add(position);
    this.mark();
  }
}
