// Who speaks on a side: the base, one adapter, or a blend of up to four with a slider each.

import { el, keep, kept, paintSwatch } from "./dom.js";

const PARTS_MAX = 4;
const BASE = "base:";
const ONE = "one:";
const BLEND = "blend:";

export class Voice {
  constructor(slot, select, blend, swatch, onchange) {
    this.slot = slot;
    this.select = select;
    this.box = blend;
    this.swatch = swatch;
    this.onchange = onchange;
    this.base = "";
    this.names = [];
    const saved = kept(slot, null);
    this.kind = saved?.kind ?? null; // null: not chosen yet
    this.name = saved?.name ?? "";
    this.parts = Array.isArray(saved?.parts) ? saved.parts.slice(0, PARTS_MAX) : [];
    select.addEventListener("change", () => this.choose(select.value));
  }

  // What the server has. A name that went stays chosen: its next answer says so.
  offer(base, names, fallback) {
    const same = base === this.base && names.join("\n") === this.names.join("\n");
    this.base = base;
    this.names = names;
    if (this.kind === null) {
      this.kind = fallback ? ONE : BASE;
      this.name = fallback ?? "";
    }
    if (!same) this.fill();
  }

  // [{name, weight}] as requests have it.
  uses() {
    if (this.kind === ONE) return [{ name: this.name, weight: 1 }];
    if (this.kind === BLEND) return this.parts.map((p) => ({ ...p }));
    return [];
  }

  label() {
    if (this.kind === ONE) return this.name;
    if (this.kind === BLEND) return this.parts.map((p) => `${p.name} ${p.weight.toFixed(2)}`).join(" + ") || "an empty blend";
    return this.base || "the base";
  }

  choose(value) {
    const cut = value.indexOf(":") + 1;
    this.kind = value.slice(0, cut);
    if (this.kind === ONE) this.name = value.slice(cut);
    if (this.kind === BLEND && this.parts.length === 0) {
      const first = this.name || this.names[0];
      const second = this.names.find((n) => n !== first);
      this.parts = [first, second].filter(Boolean).map((name) => ({ name, weight: 0.5 }));
    }
    this.fill();
    this.changed();
  }

  changed() {
    keep(this.slot, { kind: this.kind, name: this.name, parts: this.parts });
    paintSwatch(this.swatch, this.uses());
    this.onchange();
  }

  fill() {
    const option = (value, text) => el("option", { value }, text);
    const gone = this.kind === ONE && this.name && !this.names.includes(this.name);
    const adapters = el("optgroup", { label: "Adapters" }, ...this.names.map((n) => option(ONE + n, n)));
    if (gone) adapters.append(option(ONE + this.name, `${this.name} (not here)`));
    this.select.replaceChildren(option(BASE, `${this.base} (base)`));
    if (this.names.length || gone) this.select.append(adapters, option(BLEND, "Blend …"));
    this.select.value = this.kind === ONE ? ONE + this.name : this.kind;
    paintSwatch(this.swatch, this.uses());
    this.fillBlend();
  }

  fillBlend() {
    this.box.hidden = this.kind !== BLEND;
    if (this.box.hidden) return;
    const rows = this.parts.map((p) => this.row(p));
    const free = this.names.find((n) => !this.parts.some((p) => p.name === n));
    if (this.parts.length < PARTS_MAX && free) rows.push(this.addButton(free));
    this.box.replaceChildren(...rows);
  }

  row(p) {
    const swatch = el("span", { class: "swatch" });
    const taken = (n) => n !== p.name && this.parts.some((other) => other.name === n);
    const names = this.names.includes(p.name) ? this.names : [p.name, ...this.names];
    const select = el("select", { "aria-label": "Adapter" }, ...names.filter((n) => !taken(n)).map((n) => el("option", { value: n }, n)));
    const slider = el("input", { type: "range", min: "0", max: "1.5", step: "0.05", "aria-label": `Weight of ${p.name}` });
    const value = el("output", {}, p.weight.toFixed(2));
    const remove = el("button", { type: "button", class: "quiet", "aria-label": `Take ${p.name} out` }, "×");
    select.value = p.name;
    slider.value = p.weight;
    paintSwatch(swatch, [p]);
    select.addEventListener("change", () => {
      p.name = select.value;
      this.refill("select", this.parts.indexOf(p));
    });
    slider.addEventListener("input", () => {
      p.weight = Number(slider.value);
      value.textContent = p.weight.toFixed(2);
      this.changed();
    });
    remove.addEventListener("click", () => {
      const at = this.parts.indexOf(p);
      this.parts.splice(at, 1);
      this.refill("select", Math.min(at, this.parts.length - 1));
    });
    return el("div", { class: "blend-row" }, swatch, select, slider, value, remove);
  }

  addButton(free) {
    const add = () => {
      this.parts.push({ name: free, weight: 0.5 });
      this.refill("select", this.parts.length - 1);
    };
    return el("button", { type: "button", class: "link", onclick: add }, "Add an adapter");
  }

  // The rows are made again; the keyboard goes on where it was.
  refill(tag, row) {
    this.fillBlend();
    this.changed();
    (this.box.children[row]?.querySelector(tag) ?? this.box.querySelector("button"))?.focus();
  }
}
