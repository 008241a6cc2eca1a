// The server's API: requests with the key, errors as the API words them, event streams.

let key = "";
const SLOT = "chorus.key";

try {
  key = sessionStorage.getItem(SLOT) ?? "";
} catch {
  // No storage here: the key lives in memory.
}

export function hasKey() {
  return key !== "";
}

// Kept in memory; in the tab's storage only where the user says so.
export function setKey(value, keepInTab) {
  key = value;
  try {
    if (value && keepInTab) sessionStorage.setItem(SLOT, value);
    else sessionStorage.removeItem(SLOT);
  } catch {
    // As above.
  }
}

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.param = error.param ?? null;
    this.code = error.code ?? null;
  }
}

async function errorOf(response) {
  let error = { message: `the server answered ${response.status}` };
  try {
    const body = await response.json();
    if (body.error && typeof body.error.message === "string") error = body.error;
  } catch {
    // Not of our server: the status is all there is to say.
  }
  return new ApiError(response.status, error);
}

async function ask(method, path, body, signal) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "the server does not answer" });
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

export async function call(method, path, value) {
  const response = await ask(method, path, value === undefined ? undefined : JSON.stringify(value));
  return response.json();
}

// The data of each event, parsed; ends with the stream or with [DONE]. Comments (pings) and names of events are skipped. An
// error inside a stream is thrown like one before it.
export async function* events(method, path, body, signal) {
  const response = await ask(method, path, body, signal);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let pending = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      pending += decoder.decode(value, { stream: true });
      const blocks = pending.split("\n\n");
      pending = blocks.pop();
      for (const block of blocks) {
        const data = dataOf(block);
        if (data === "") continue;
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new ApiError(response.status, event.error);
        yield event;
      }
    }
  } catch (error) {
    if (error instanceof TypeError) throw new ApiError(0, { message: "the connection broke off" });
    throw error;
  } finally {
    reader.cancel().catch(() => {});
  }
}

function dataOf(block) {
  return block
    .split("\n")
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5).trimStart())
    .join("\n");
}
