// The page: two sides, one composer, the server at work. Each part stands in a file of its own; here they meet.

import { announce, byId, errorText, keep, kept } from "./dom.js";
import { call, hasKey, setKey } from "./api.js";
import { FieldError, readFields, startRequestDialog, writeFields } from "./request.js";
import { refreshAdapters, startAdapters } from "./adapters.js";
import { startSteps, tellDevice, watch } from "./steps.js";
import { Side } from "./side.js";

const POLL_MS = 5000;
const POLL_SOON_MS = 1000; // while the server is not ready

const sides = [0, 1].map((i) => new Side(i, tellState));
let timer = 0;
let ready = false;
let busyBefore = 0;

// ---- the composer ----

function targets() {
  const chosen = new FormData(byId("composer")).get("target");
  return chosen === "both" ? sides : [sides[Number(chosen)]];
}

function tellState() {
  const busy = sides.filter((s) => s.isBusy());
  byId("stop-all").hidden = busy.length === 0;
  if (busy.length !== busyBefore && ready) refreshAdapters().catch(() => {});
  busyBefore = busy.length;
  byId("send").disabled = !ready || targets().some((s) => s.isBusy());
  const to = targets();
  byId("prompt").placeholder = to.length === 2 ? "Say something to both voices" : `Say something to ${to[0].letter}, ${to[0].voice.label()}`;
}

function showFieldError(error) {
  const box = byId("composer-error");
  for (const id of Object.keys(readFields())) byId(id).removeAttribute("aria-invalid");
  box.hidden = !error;
  box.textContent = error ? error.message : "";
  if (!(error instanceof FieldError)) return;
  openSettings(true);
  byId(error.id).setAttribute("aria-invalid", "true");
  byId(error.id).focus();
}

function send(event) {
  event.preventDefault();
  const prompt = byId("prompt").value.trim();
  const to = targets();
  if (!prompt || byId("send").disabled) return;
  try {
    const requests = to.map((s) => s.request(prompt));
    showFieldError(null);
    byId("prompt").value = "";
    grow();
    to.forEach((s, i) => s.say(prompt, requests[i]));
  } catch (error) {
    showFieldError(error);
  }
}

function preview(side) {
  try {
    side.preview(byId("prompt").value.trim());
    showFieldError(null);
  } catch (error) {
    showFieldError(error);
  }
}

function stopAll() {
  for (const s of sides) s.stop();
}

function grow() {
  const prompt = byId("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight + 2, window.innerHeight / 3)}px`;
}

function onPromptKey(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("composer").requestSubmit();
  }
}

function openSettings(open) {
  byId("settings").hidden = !open;
  byId("settings-button").setAttribute("aria-expanded", String(open));
}

function startComposer() {
  byId("sides").append(...sides.map((s) => s.root));
  for (const s of sides) s.onRequest(() => preview(s));
  byId("composer").addEventListener("submit", send);
  byId("prompt").addEventListener("keydown", onPromptKey);
  byId("prompt").addEventListener("input", grow);
  byId("targets").addEventListener("change", tellState);
  byId("stop-all").addEventListener("click", stopAll);
  byId("clear-all").addEventListener("click", () => sides.forEach((s) => s.clear()));
  byId("settings-button").addEventListener("click", () => openSettings(byId("settings").hidden));
  byId("settings").addEventListener("input", () => keep("sampling", readFields()));
  byId("settings-reset").addEventListener("click", () => {
    writeFields({});
    keep("sampling", {});
    showFieldError(null);
  });
  writeFields(kept("sampling", {}));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) stopAll();
  });
}

// ---- theme, views, key ----

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme-button").textContent = theme[0].toUpperCase() + theme.slice(1);
  byId("theme-button").setAttribute("aria-label", `Theme: ${theme}`);
  keep("theme", theme);
  watch();
}

function startTheme() {
  setTheme(document.documentElement.dataset.theme ?? "auto");
  byId("theme-button").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "auto";
    setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", watch);
}

function setView(view) {
  document.body.dataset.view = view;
  for (const b of byId("views").children) b.setAttribute("aria-pressed", String(b.dataset.view === view));
  watch();
}

function startViews() {
  byId("views").addEventListener("click", (event) => {
    if (event.target.dataset.view) setView(event.target.dataset.view);
  });
}

function startKey() {
  const dialog = byId("key-dialog");
  byId("key-button").addEventListener("click", () => {
    byId("key-field").value = "";
    dialog.showModal();
  });
  byId("key-cancel").addEventListener("click", () => dialog.close());
  byId("key-form").addEventListener("submit", () => {
    setKey(byId("key-field").value.trim(), byId("key-keep").checked);
    byId("key-field").value = "";
    refresh();
  });
}

// ---- the server ----

function banner(text) {
  const box = byId("banner");
  const told = text && text[0].toUpperCase() + text.slice(1);
  if (box.textContent !== told) box.textContent = told;
  box.hidden = told === "";
}

function tellServer(word, detail, problem) {
  const state = byId("server-state");
  const text = detail ? `${word} · ${detail}` : word;
  if (state.textContent !== text) state.textContent = text;
  state.dataset.state = word;
  byId("key-button").textContent = hasKey() ? "Key ✓" : "Key";
  banner(problem);
}

function needsKey(error) {
  return hasKey() ? `${errorText(error)}: this key is not one of them.` : "This server asks for an API key: press “Key”.";
}

// What the server takes where a field stays empty.
async function tellDefaults() {
  const defaults = (await call("GET", "/props")).default_generation_settings.params;
  for (const id of ["temperature", "top_p", "top_k", "min_p"]) byId(id).placeholder = defaults[id];
}

async function look() {
  const status = await call("GET", "/v1/status");
  tellDevice(status);
  if (status.status === "loading") return tellServer("loading", "", "The model is loading.");
  if (!byId("temperature").placeholder) await tellDefaults();
  const adapters = await refreshAdapters();
  const names = adapters.filter((a) => !a.draining).map((a) => a.name);
  sides.forEach((s, i) => s.voice.offer(status.model.name, names, i === 1 ? names.at(-1) : undefined));
  ready = status.status === "ok";
  return tellServer(status.status, status.model.name, ready ? "" : `The server is ${status.status}.`);
}

async function refresh() {
  clearTimeout(timer);
  const was = ready;
  ready = false;
  try {
    await look();
  } catch (error) {
    if (error.status === 401) tellServer("locked", "", needsKey(error));
    else if (error.status === 503) tellServer("waiting", "", errorText(error));
    else tellServer("away", "", `${errorText(error)}.`);
  }
  if (ready && !was) {
    announce("Ready");
    watch();
  }
  tellState();
  timer = setTimeout(refresh, ready ? POLL_MS : POLL_SOON_MS);
}

startComposer();
startTheme();
startViews();
startKey();
startRequestDialog();
startAdapters(refresh);
startSteps();
refresh();
