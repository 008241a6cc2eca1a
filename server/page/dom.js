// Small things that every part of the page uses: elements, colours of voices, numbers as people read them, what is kept.

const SEED = 32828;

export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

export function part(root, name) {
  const element = root.querySelector(`[data-part="${name}"]`);
  if (!element) throw new Error(`no part ${name} here`);
  return element;
}

export function cloneTemplate(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

// el("button", {type: "button", onclick: f}, "Load"): strings become text, never markup.
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function announce(text) {
  byId("announcer").textContent = text;
}

// The error in its place: what the API said, and where.
export function errorText(error) {
  const about = error.param && !error.message.includes(error.param) ? ` (${error.param})` : "";
  return `${error.message}${about}`;
}

// ---- colours ----

// One of 24 hues, by the name alone: a voice looks the same in every place, session and browser. The seed is one that keeps the
// demo's voices well apart.
export function hueOf(name) {
  let hash = SEED;
  for (const byte of new TextEncoder().encode(name)) hash = (hash * 31 + byte) >>> 0;
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) >>> 0;
  hash = (hash ^ (hash >>> 12)) >>> 0;
  return (hash % 24) * 15;
}

// Of the theme that is on; the base (no name) is grey.
export function colourOf(name) {
  const chroma = name ? 0.13 : 0.012;
  const hue = name ? hueOf(name) : 80;
  return `light-dark(oklch(0.57 ${chroma} ${hue}), oklch(0.76 ${chroma} ${hue}))`;
}

// For a canvas, which knows no themes: what a style comes to.
export function resolved(colour) {
  const probe = byId("probe");
  probe.style.color = colour;
  return getComputedStyle(probe).color;
}

// Parts: [{name, weight}], none for the base.
export function paintSwatch(swatch, parts) {
  const total = parts.reduce((sum, p) => sum + Math.abs(p.weight), 0);
  if (parts.length === 0 || total === 0) {
    swatch.style.background = colourOf("");
    return;
  }
  let at = 0;
  const stops = parts.map((p) => {
    const from = at;
    at += (Math.abs(p.weight) / total) * 100;
    return `${colourOf(p.name)} ${from}% ${at}%`;
  });
  swatch.style.background = `linear-gradient(to bottom, ${stops.join(", ")})`;
}

// ---- numbers ----

export function count(n) {
  return Math.round(n).toLocaleString("en");
}

export function rate(n) {
  return n >= 100 || Number.isInteger(n) ? count(n) : n.toFixed(1);
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${n >= 100 || unit === 0 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

export function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

export function ago(unixSeconds) {
  const s = Math.max(0, Date.now() / 1000 - unixSeconds);
  if (s < 60) return "just now";
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

// ---- what a reload keeps: voices, sampling, theme; no conversation ----

export function keep(key, value) {
  try {
    localStorage.setItem(`chorus.${key}`, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: the page works without.
  }
}

export function kept(key, fallback) {
  try {
    const text = localStorage.getItem(`chorus.${key}`);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

export async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Pages over plain http from another machine have no clipboard of their own.
  const area = el("textarea", { class: "sr", readOnly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
