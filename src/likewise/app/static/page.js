// What pages share: elements, and choosing up to so many of a list.
"use strict";

function html(name, parent, text, className) {
  const one = document.createElement(name);
  if (text !== undefined) one.textContent = text;
  if (className) one.className = className;
  parent.append(one);
  return one;
}

// A fieldset of checkboxes, of which so many may be checked, and a field that narrows the list.
class Chooser {
  constructor(fieldset) {
    this.fieldset = fieldset;
    this.boxes = [...fieldset.querySelectorAll("input[type=checkbox]")];
    this.find = fieldset.querySelector(".find");
    fieldset.addEventListener("change", () => this.limit());
    if (this.find) {
      this.find.addEventListener("input", () => this.narrow());
      this.find.addEventListener("change", (event) => event.stopPropagation());
      this.find.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
    }
    this.limit();
    const first = this.boxes.find((box) => box.checked);
    if (first) this.showInList(first);
  }

  get chosen() {
    return this.boxes.filter((box) => box.checked).map((box) => box.value);
  }

  // As it stands in the list.
  label(id) {
    const box = this.boxes.find((one) => one.value === id);
    return box ? box.parentElement.textContent.trim() : id;
  }

  limit() {
    const full = this.chosen.length >= Number(this.fieldset.dataset.most);
    for (const box of this.boxes) box.disabled = full && !box.checked;
  }

  narrow() {
    const words = this.find.value.toLowerCase().split(/\s+/);
    for (const box of this.boxes) {
      const text = box.parentElement.title.toLowerCase();
      box.parentElement.hidden = !box.checked && !words.every((word) => text.includes(word));
    }
  }

  // Without moving the page.
  showInList(box) {
    const list = box.closest(".options");
    list.scrollTop = Math.max(0, box.parentElement.offsetTop - list.offsetTop - 40);
  }
}
