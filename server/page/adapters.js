// The adapters by tier: what is loaded, by whom it is used; load, unload, and a check that says what would bind.

import { ago, announce, byId, bytes, count, el, errorText, paintSwatch } from "./dom.js";
import { call } from "./api.js";

const TIERS = [
  ["device", "On the device"],
  ["host", "In host memory"],
  ["disk", "On disk"],
];
const SURE_MS = 4000; // how long "Unload?" waits for its second click
const TENSORS_MAX = 200; // rows of a report
const FILTER_FROM = 8;

let list = [];
let shownKey = "";
let onchange = () => {};

export async function refreshAdapters() {
  list = (await call("GET", "/v1/adapters")).data;
  tell();
  return list;
}

function tell() {
  const filter = byId("adapters-filter");
  filter.hidden = list.length < FILTER_FROM;
  const wanted = filter.hidden ? "" : filter.value.toLowerCase();
  byId("adapters-count").textContent = list.length ? `${list.length} served` : "none yet";
  const shown = list.filter((a) => a.name.toLowerCase().includes(wanted));
  // A list that stays as it is stays in its place, under the pointer that may be pressed on it right now.
  const key = JSON.stringify([shown.map((a) => [a.generation, a.tier, a.users, a.moving, a.draining, facts(a)]), askedName()]);
  if (key === shownKey) return;
  shownKey = key;
  const box = byId("adapters-list");
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  box.replaceChildren(...TIERS.flatMap(([tier, title]) => group(title, shown.filter((a) => a.tier === tier))));
  if (focused) [...box.querySelectorAll("button")].find((b) => b.dataset.name === focused)?.focus();
}

function group(title, adapters) {
  if (adapters.length === 0) return [];
  return [el("h3", {}, `${title} (${adapters.length})`), el("ul", {}, ...adapters.map(row))];
}

function facts(a) {
  const out = [];
  if (a.blend) out.push(a.blend.map((p) => `${p.name} ${p.weight}`).join(" + "));
  else out.push(`rank ${a.rank}`, bytes(a.bytes));
  if (a.quant !== "none") out.push(a.quant);
  out.push(a.last_used ? `used ${ago(a.last_used)}` : "not used yet");
  return out.join(" · ");
}

function row(a) {
  const swatch = el("span", { class: "swatch" });
  paintSwatch(swatch, a.blend ?? [{ name: a.name, weight: 1 }]);
  const marks = [];
  if (a.pinned) marks.push(el("span", { class: "mark" }, "pinned"));
  if (a.moving) marks.push(el("span", { class: "mark" }, "moving"));
  if (a.draining) marks.push(el("span", { class: "mark" }, "draining"));
  if (a.users) marks.push(el("span", { class: "mark live" }, `${a.users} ${a.users === 1 ? "user" : "users"}`));
  const head = el("p", { class: "name" }, swatch, el("strong", {}, a.name), ...marks);
  const title = `generation ${a.generation}${a.path ? `, ${a.path}` : ""}`;
  return el("li", {}, el("div", {}, head, el("p", { class: "hint", title }, facts(a))), unloadButton(a.name));
}

// ---- unload: asked twice ----

let sure = { name: "", until: 0 };

function askedName() {
  return sure.until > performance.now() ? sure.name : "";
}

function unloadButton(name) {
  const asked = askedName() === name;
  const button = el("button", { type: "button", class: asked ? "stop" : "quiet", "data-name": name }, asked ? "Unload?" : "Unload");
  button.setAttribute("aria-label", asked ? `Really unload ${name}?` : `Unload ${name}`);
  button.addEventListener("click", () => (asked ? unload(name) : askSure(name)));
  return button;
}

function askSure(name) {
  sure = { name, until: performance.now() + SURE_MS };
  announce(`Press once more to unload ${name}`);
  tell();
  setTimeout(tell, SURE_MS + 10);
}

function fail(error) {
  const box = byId("adapters-error");
  box.hidden = !error;
  box.textContent = error ? errorText(error) : "";
}

async function unload(name) {
  sure = { name: "", until: 0 };
  fail(null);
  announce(`Unloading ${name}`);
  try {
    const gone = await call("DELETE", `/v1/adapters/${encodeURIComponent(name)}`);
    announce(gone.draining ? `${name} goes when its ${gone.users} users are done` : `${name} is unloaded`);
  } catch (error) {
    fail(error);
  }
  onchange();
}

// ---- check and load ----

function fact(name, value) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value));
}

// Without its own name, which stands beside it.
function whyOf(t) {
  return t.why.split(`${t.name}: `).at(-1) || "it has no place";
}

function tensorTable(tensors) {
  const rows = tensors.slice(0, TENSORS_MAX).map((t) => el("tr", {}, el("td", {}, t.name), el("td", {}, `${t.shape} ${t.dtype}`), el("td", {}, t.matched ? "binds" : whyOf(t))));
  if (tensors.length > rows.length) rows.push(el("tr", {}, el("td", { colSpan: 3 }, `and ${count(tensors.length - rows.length)} more`)));
  const head = el("tr", {}, el("th", { scope: "col" }, "Tensor"), el("th", { scope: "col" }, "Shape"), el("th", { scope: "col" }, "Result"));
  return el("div", { class: "scroll", role: "region", "aria-label": "Tensors", tabIndex: 0 }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
}

function scaleText(report) {
  return report.scale_min === report.scale_max ? String(report.scale_min) : `${report.scale_min} to ${report.scale_max}`;
}

function showReport(report) {
  const out = [];
  const verdict = report.ok ? "It would load." : "It would be refused.";
  out.push(el("p", { class: report.ok ? "verdict good" : "verdict bad" }, verdict));
  if (report.error) out.push(el("p", { class: "error" }, report.error.message ?? String(report.error)));
  if (report.no_op) out.push(el("p", { class: "hint" }, "It changes nothing: all its products are zero."));
  else if (report.zero_modules) out.push(el("p", { class: "hint" }, `${report.zero_modules} of its modules change nothing.`));
  if (report.ok) out.push(
    el("dl", { class: "facts" }, fact("rank", String(report.rank)), fact("scale", scaleText(report)), fact("modules", count(report.modules)), fact("memory", bytes(report.bytes)), fact("targets", report.targets.join(", ") || "none")),
  );
  const odd = report.tensors.filter((t) => !t.matched);
  if (odd.length) out.push(el("h4", {}, `${count(odd.length)} that do not bind`), tensorTable(odd));
  if (report.tensors.length > odd.length) out.push(el("details", {}, el("summary", {}, `All ${count(report.tensors.length)} tensors`), tensorTable(report.tensors)));
  byId("load-report").replaceChildren(...out);
}

async function withForm(what, work) {
  const buttons = [byId("load-check"), byId("load-send")];
  const report = byId("load-report");
  if (!byId("load-form").reportValidity()) return;
  for (const b of buttons) b.disabled = true;
  report.replaceChildren(el("p", { class: "hint" }, `${what} …`));
  try {
    await work(byId("load-path").value.trim());
  } catch (error) {
    report.replaceChildren(el("p", { class: "error" }, errorText(error)));
  }
  for (const b of buttons) b.disabled = false;
}

function check() {
  return withForm("Checking", async (path) => showReport(await call("POST", "/v1/adapters/check", { path })));
}

function nameOf(path) {
  const last = path.replace(/\/+$/, "").split("/").at(-1);
  return last.replace(/\.gguf$/, "");
}

function load() {
  return withForm("Loading", async (path) => {
    const name = byId("load-name").value.trim() || nameOf(path);
    const loaded = await call("POST", "/v1/adapters", { name, path, pinned: byId("load-pinned").checked });
    const verb = loaded.replaced ? "replaces the one before" : "is loaded";
    byId("load-report").replaceChildren(el("p", { class: "verdict good" }, `${loaded.name} ${verb}: rank ${loaded.rank}, ${bytes(loaded.bytes)}.`));
    onchange();
  });
}

// changed: called when this panel changed what is served.
export function startAdapters(changed) {
  onchange = changed;
  byId("adapters-filter").addEventListener("input", tell);
  byId("load-check").addEventListener("click", check);
  byId("load-form").addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
}
