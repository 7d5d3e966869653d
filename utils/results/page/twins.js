// Pairs of pictures that show the same and carry different labels, side by side; a click chooses one among the cards.

class Twins {
  constructor(data, review, onChoose) {
    Object.assign(this, { data, review, onChoose });
    this.buttons = []; // [row, button]
    byId("twins").hidden = !data.twins.length;
    byId("twins-count").textContent = `(${number(data.twins.length)})`;
    byId("twins-list").replaceChildren(...data.twins.map((pair) =>
      element("li", {}, ...pair.map((row) => this.button(row)))));
  }

  button(row) {
    const image = element("img", { src: source(row), alt: "", loading: "lazy", draggable: false });
    image.addEventListener("load", () => pixelated(image));
    const made = element("button", { type: "button", className: "twin" }, image,
      element("bdi", { textContent: className(this.data.label[row]), title: className(this.data.label[row]) }),
      element("small", {}));
    made.addEventListener("click", () => this.onChoose(row));
    this.buttons.push([row, made]);
    return made;
  }

  // What has been decided meanwhile, and which of them is chosen; in place, so that the keyboard stays where it is.
  draw(chosen) {
    for (const [row, button] of this.buttons) {
      const decided = verdict(row);
      button.lastElementChild.textContent = decided || `p ${probability(this.data.p_noisy[row])}`;
      button.className = `twin ${kind(this.review.of(row))}`;
      button.setAttribute("aria-pressed", row === chosen);
      button.setAttribute("aria-label", inWords(row));
    }
  }
}
