// The steps of the model as they happen: which voices share each one, and how fast it goes. Drawn when something came in, not
// by a clock; listened to only while somebody can see it.

import { byId, colourOf, count, duration, el, errorText, paintSwatch, rate, resolved } from "./dom.js";
import { events } from "./api.js";

const KEPT = 120; // steps
const MINUTE_S = 60;
const RETRY_MS = 3000;
const CALM_MS = 1000; // between drawings where motion is unwelcome
const LEGEND_MAX = 12;
const HELP = "Each bar is one step of the model, its colours are the voices that share it. Point at one, or use the arrow keys.";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let steps = [];
let rates = []; // {at, value}
let latest = null; // the last frame
let picked = -1; // index into steps
let paused = false;
let abort = null;
let retry = 0;
let drawn = 0;
let waiting = 0; // a frame or timer that will draw

// Rows of a blend count for each of its parts, so a bar is cut in proportion: the base's rows, then the voices' shares.
function slices(step) {
  const out = step.base_rows ? [{ name: "", rows: step.base_rows }] : [];
  const told = step.adapters.reduce((sum, a) => sum + a.rows, 0);
  const theirs = step.rows - step.base_rows;
  for (const a of step.adapters) out.push({ name: a.name, rows: told ? (a.rows / told) * theirs : 0 });
  return out;
}

function take(frame) {
  latest = frame;
  for (const step of frame.steps) {
    const last = steps.at(-1);
    if (last && step.step < last.step) steps = []; // another run of the server
    if (!last || step.step !== last.step) steps.push(step);
  }
  const over = steps.length - KEPT;
  if (over > 0) {
    steps.splice(0, over);
    picked = picked < 0 ? -1 : Math.max(0, picked - over);
  }
  rates.push({ at: frame.now, value: frame.rates.tokens_out });
  rates = rates.filter((r) => r.at <= frame.now && r.at > frame.now - MINUTE_S);
  show();
}

function show() {
  if (paused || waiting) return;
  const draw = () => {
    waiting = 0;
    drawn = performance.now();
    tellFigures();
    drawSteps();
    drawRates();
  };
  if (!calm.matches) waiting = requestAnimationFrame(draw);
  else waiting = setTimeout(draw, Math.max(0, CALM_MS - (performance.now() - drawn)));
}

// ---- words and numbers ----

function partyText(step) {
  const names = slices(step).map((s) => `${s.name || "base"} ${count(Math.max(1, s.rows))}`);
  if (step.more_adapters) names.push(`${step.more_adapters} more`);
  return names.join(", ");
}

function stepText(step) {
  const prompt = step.prefill_rows ? `, ${step.prefill_rows} of prompts` : "";
  return `Step ${count(step.step)}: ${step.rows} rows${prompt} in ${duration(step.ms)}: ${partyText(step)}`;
}

function tellFigures() {
  const step = steps.findLast((s) => s.rows > 0);
  byId("figure-rate").textContent = rate(latest.rates.tokens_out);
  byId("figure-kv").textContent = `${count(latest.kv.used)} of ${count(latest.kv.pages)}`;
  byId("figure-waiting").textContent = count(latest.waiting);
  byId("figure-rows").textContent = step ? count(step.rows) : "–";
  byId("figure-voices").textContent = step ? count(slices(step).length + step.more_adapters) : "–";
  byId("figure-ms").textContent = step ? (rate(step.ms)) : "–";
  byId("rate-plot").setAttribute("aria-label", `Tokens a second over the last minute, now ${rate(latest.rates.tokens_out)}`);
  tellLegend();
  tellPicked();
}

function tellLegend() {
  const rows = new Map();
  for (const step of steps) for (const s of slices(step)) rows.set(s.name, (rows.get(s.name) ?? 0) + s.rows);
  const names = [...rows.keys()].sort((a, b) => rows.get(b) - rows.get(a) || (a < b ? -1 : 1));
  const shown = names.slice(0, LEGEND_MAX).sort();
  const list = byId("steps-legend");
  const key = shown.join("\n") + names.length;
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const items = shown.map((name) => {
    const swatch = el("span", { class: "swatch" });
    paintSwatch(swatch, name ? [{ name, weight: 1 }] : []);
    return el("li", {}, swatch, name || "base");
  });
  if (names.length > shown.length) items.push(el("li", {}, `and ${names.length - shown.length} more`));
  list.replaceChildren(...items);
}

function tellPicked() {
  const plot = byId("steps-plot");
  const step = steps[picked];
  byId("steps-picked").textContent = step ? stepText(step) : HELP;
  plot.setAttribute("aria-valuemax", String(Math.max(0, steps.length - 1)));
  plot.setAttribute("aria-valuenow", String(picked < 0 ? Math.max(0, steps.length - 1) : picked));
  const spoken = step ?? steps.at(-1);
  plot.setAttribute("aria-valuetext", spoken ? stepText(spoken) : "No step yet");
}

// ---- pictures ----

function fit(canvas) {
  const box = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(box.width * scale);
  const height = Math.round(box.height * scale);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, box.width, box.height);
  return { context, width: box.width, height: box.height };
}

// A round number at or above n: 1, 2, 4, 10, ...
function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, n)));
  return [1, 2, 4, 10].map((k) => k * power).find((k) => k >= n);
}

// Lines at the top, the middle and the bottom; what the middle stands for is the caller's.
function drawScale(context, width, height, top, middle, label) {
  context.strokeStyle = resolved("var(--line)");
  context.fillStyle = resolved("var(--soft)");
  context.lineWidth = 1;
  context.beginPath();
  for (const y of [0.5, Math.round(height / 2) + 0.5, height - 0.5]) {
    context.moveTo(0, y);
    context.lineTo(width, y);
  }
  context.stroke();
  context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  context.textBaseline = "top";
  context.fillText(`${count(top)} ${label}`, 2, 4);
  context.fillText(rate(middle), 2, Math.round(height / 2) + 4);
}

// Heights are square roots: a step of one row is seen beside a prompt of hundreds. Within a bar each voice has its share.
function drawSteps() {
  const { context, width, height } = fit(byId("steps-plot"));
  const top = ceiling(Math.max(4, ...steps.map((s) => s.rows)));
  drawScale(context, width, height, top, top / 4, "rows");
  const pitch = width / KEPT;
  const colours = new Map();
  steps.forEach((step, i) => {
    let y = height;
    const full = Math.sqrt(step.rows / top) * (height - 2);
    const x = Math.round(width - (steps.length - i) * pitch);
    const w = Math.round(width - (steps.length - i - 1) * pitch) - x;
    for (const s of slices(step)) {
      if (!colours.has(s.name)) colours.set(s.name, resolved(colourOf(s.name)));
      const h = (s.rows / step.rows) * full;
      context.fillStyle = colours.get(s.name);
      context.globalAlpha = picked < 0 || picked === i ? 1 : 0.4;
      context.fillRect(x, y - h, w, h);
      y -= h;
    }
  });
  context.globalAlpha = 1;
}

function drawRates() {
  const { context, width, height } = fit(byId("rate-plot"));
  const top = ceiling(Math.max(1, ...rates.map((r) => r.value)));
  drawScale(context, width, height, top, top / 2, "tok/s");
  if (rates.length < 2) return;
  const end = rates.at(-1).at;
  const x = (r) => width - ((end - r.at) / MINUTE_S) * width;
  const y = (r) => height - 1 - (r.value / top) * (height - 3);
  context.beginPath();
  rates.forEach((r, i) => (i ? context.lineTo(x(r), y(r)) : context.moveTo(x(r), y(r))));
  context.strokeStyle = resolved("var(--accent)");
  context.lineWidth = 1.5;
  context.stroke();
  context.lineTo(width, height);
  context.lineTo(x(rates[0]), height);
  context.globalAlpha = 0.12;
  context.fillStyle = resolved("var(--accent)");
  context.fill();
  context.globalAlpha = 1;
}

// ---- looking at one step ----

function pick(index) {
  picked = index < 0 || steps.length === 0 ? -1 : Math.min(index, steps.length - 1);
  tellPicked();
  drawSteps();
}

function pickAt(event) {
  const box = byId("steps-plot").getBoundingClientRect();
  const fromEnd = Math.ceil(((box.right - event.clientX) / box.width) * KEPT);
  pick(steps.length - Math.max(1, fromEnd));
}

function pickByKey(event) {
  const last = steps.length - 1;
  const at = picked < 0 ? last : picked;
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, PageUp: at - 10, PageDown: at + 10 }[event.key];
  if (event.key === "Escape") pick(-1);
  else if (to === undefined) return;
  else pick(Math.max(0, to));
  event.preventDefault();
}

// ---- the stream ----

function tellProblem(text) {
  byId("steps-problem").textContent = text;
  byId("steps-problem").hidden = text === "";
}

async function listen() {
  abort = new AbortController();
  const mine = abort;
  let problem = "";
  try {
    for await (const frame of events("GET", "/v1/steps", undefined, mine.signal)) {
      tellProblem("");
      take(frame);
    }
  } catch (error) {
    const told = [0, 401, 503].includes(error.status); // of the whole server: the page says so above
    problem = told ? "" : `No steps to see: ${errorText(error)}.`;
  }
  if (mine.signal.aborted) return;
  abort = null;
  tellProblem(problem);
  retry = setTimeout(watch, RETRY_MS);
}

// Begins or ends listening, as the page can be seen or not.
export function watch() {
  const seen = !document.hidden && byId("steps").checkVisibility();
  clearTimeout(retry);
  if (seen && !abort) listen();
  if (!seen && abort) {
    abort.abort();
    abort = null;
  }
  if (seen && latest) show();
}

export function tellDevice(status) {
  byId("steps-device").textContent = status.device ? status.device.name ?? status.device.backend : "";
}

export function startSteps() {
  const plot = byId("steps-plot");
  const button = byId("steps-pause");
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Go on" : "Pause";
    if (latest) show();
  });
  plot.addEventListener("pointermove", pickAt);
  plot.addEventListener("pointerleave", () => pick(-1));
  plot.addEventListener("blur", () => pick(-1));
  plot.addEventListener("keydown", pickByKey);
  document.addEventListener("visibilitychange", watch);
  new ResizeObserver(watch).observe(byId("watch"));
}
