// What is sent: one body for the wire, for the eye and for curl.

import { byId, copyText } from "./dom.js";
import { hasKey } from "./api.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens"];
const FIELDS = [...NUMBERS, "seed", "system"];

// A field that is not a number: the user is told which.
export class FieldError extends Error {
  constructor(id) {
    super(`${byId(id).labels[0].firstChild.textContent.trim()} is not a number.`);
    this.id = id;
  }
}

export function readFields() {
  return Object.fromEntries(FIELDS.map((id) => [id, byId(id).value]));
}

export function writeFields(values) {
  for (const id of FIELDS) byId(id).value = values[id] ?? "";
}

function sampling() {
  const out = {};
  for (const id of NUMBERS) {
    const text = byId(id).value.trim();
    if (text === "") continue;
    out[id] = Number(text);
    if (!Number.isFinite(out[id])) throw new FieldError(id);
  }
  const seed = byId("seed").value.trim();
  if (seed === "") return out;
  if (!/^-?\d{1,19}$/.test(seed)) throw new FieldError("seed");
  out.seed = seed.replace(/^(-?)0+(?=\d)/, "$1");
  return out;
}

// A voice is [{name, weight}], [] for the base. Turns that failed are not told to the model.
export function makeRequest(model, voice, turns, prompt) {
  const messages = [];
  const system = byId("system").value.trim();
  if (system) messages.push({ role: "system", content: system });
  for (const turn of turns) {
    if (!turn.answer) continue;
    messages.push({ role: "user", content: turn.prompt }, { role: "assistant", content: turn.answer });
  }
  messages.push({ role: "user", content: prompt });
  const single = voice.length === 1 && voice[0].weight === 1;
  return {
    model,
    adapter: single ? voice[0].name : voice,
    messages,
    ...sampling(),
    stream: true,
    stream_options: { include_usage: true },
  };
}

// A seed may have more digits than a number here holds, so it travels as text and loses its quotes last. Inside a string every
// quote has a backslash before it: nothing there looks like this member.
export function toJson(request, indent) {
  return JSON.stringify(request, null, indent).replace(/("seed": ?)"(-?\d+)"/, "$1$2");
}

function curlOf(request) {
  const body = toJson(request, 2).replaceAll("'", "'\\''");
  const key = hasKey() ? '  -H "Authorization: Bearer $CHORUS_API_KEY" \\\n' : "";
  return `curl -N ${location.origin}/v1/chat/completions \\\n  -H 'Content-Type: application/json' \\\n${key}  -d '${body}'`;
}

export function showRequest(request, title) {
  byId("request-title").textContent = title;
  byId("request-body").textContent = toJson(request, 2);
  byId("request-curl").textContent = curlOf(request);
  byId("request-copied").textContent = "";
  byId("request-dialog").showModal();
}

async function copyFrom(id) {
  try {
    await copyText(byId(id).textContent);
    byId("request-copied").textContent = "Copied";
  } catch {
    byId("request-copied").textContent = "The browser does not let this page copy: select it instead.";
  }
}

export function startRequestDialog() {
  byId("request-close").addEventListener("click", () => byId("request-dialog").close());
  byId("request-copy-body").addEventListener("click", () => copyFrom("request-body"));
  byId("request-copy-curl").addEventListener("click", () => copyFrom("request-curl"));
}
