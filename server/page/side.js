// One of the two sides: its voice, its conversation, the answer that is coming in.

import { announce, cloneTemplate, copyText, count, duration, errorText, paintSwatch, part, rate } from "./dom.js";
import { events } from "./api.js";
import { makeRequest, showRequest, toJson } from "./request.js";
import { Voice } from "./voice.js";

const ROUTE = "/v1/chat/completions";
const STATS_MS = 250; // how often a running answer's figures are told
const NEAR_PX = 60; // the end stays in view for a reader who is at most this far from it

// An answer while it grows: text is shown once a frame, however fast its tokens come.
class Answer {
  constructor(side, turn) {
    this.side = side;
    this.turn = turn;
    this.text = "";
    this.thoughts = "";
    this.tokens = 0;
    this.sent = performance.now();
    this.first = 0;
    this.last = 0;
    this.finish = null;
    this.timings = null;
    this.frame = 0;
    this.told = 0;
  }

  take(event) {
    const choice = event.choices?.[0];
    const delta = choice?.delta ?? {};
    const piece = delta.content ?? "";
    const thought = delta.reasoning_content ?? "";
    if (piece || thought) {
      this.last = performance.now();
      this.first ||= this.last;
      this.tokens++;
      this.text += piece;
      this.thoughts += thought;
      this.frame ||= requestAnimationFrame(() => this.paint());
    }
    if (choice?.finish_reason) this.finish = choice.finish_reason;
    if (event.timings) this.timings = event.timings;
    if (event.usage) this.tokens = event.usage.completion_tokens;
  }

  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const root = this.turn.root;
    const box = this.side.turnsBox;
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    part(root, "text").textContent = this.text;
    part(root, "thoughts").hidden = this.thoughts === "";
    part(root, "thoughts-text").textContent = this.thoughts;
    const now = performance.now();
    if (now - this.told > STATS_MS || this.finish) {
      this.told = now;
      part(root, "stats").textContent = this.figures();
    }
    if (follows) box.scrollTop = box.scrollHeight;
  }

  perSecond() {
    if (this.timings?.predicted_per_second) return this.timings.predicted_per_second;
    return this.tokens > 1 && this.last > this.first ? ((this.tokens - 1) * 1000) / (this.last - this.first) : 0;
  }

  figures(ending) {
    const out = [];
    if (ending) out.push(ending);
    else if (this.finish === "length") out.push("cut at its length");
    if (this.first) {
      if (this.perSecond()) out.push(`${rate(this.perSecond())} tok/s`);
      out.push(`first token ${duration(this.first - this.sent)}`, `${count(this.tokens)} tokens`);
    }
    return out.join(" · ");
  }
}

export class Side {
  // onstate: called when an answer begins or ends here, or when the voice changed.
  constructor(index, onstate) {
    this.letter = "AB"[index];
    this.onstate = onstate;
    this.turns = [];
    this.running = null; // AbortController
    this.root = cloneTemplate("side-template");
    this.root.setAttribute("aria-label", `Voice ${this.letter}`);
    part(this.root, "letter").textContent = this.letter;
    this.turnsBox = part(this.root, "turns");
    this.turnsBox.setAttribute("aria-label", `Conversation with voice ${this.letter}`);
    const select = part(this.root, "voice");
    select.setAttribute("aria-label", `Voice ${this.letter}`);
    this.voice = new Voice(`voice.${index}`, select, part(this.root, "blend"), part(this.root, "swatch"), onstate);
    part(this.root, "stop").addEventListener("click", () => this.stop());
    part(this.root, "clear").addEventListener("click", () => this.clear());
    this.clear();
  }

  isBusy() {
    return this.running !== null;
  }

  stop() {
    this.running?.abort();
  }

  clear() {
    this.stop();
    this.turns = [];
    const empty = document.createElement("p");
    empty.className = "empty";
    empty.textContent = "Nothing said yet.";
    this.turnsBox.replaceChildren(empty);
  }

  onRequest(show) {
    part(this.root, "request").addEventListener("click", show);
  }

  request(prompt) {
    return makeRequest(this.voice.base, this.voice.uses(), this.turns, prompt);
  }

  preview(prompt) {
    showRequest(this.request(prompt || "..."), `What ${this.letter} would be asked`);
  }

  // The request was made by `request`: fields that are wrong were told before anything began.
  say(prompt, request) {
    const turn = { prompt, answer: "", root: cloneTemplate("turn-template"), request };
    if (this.turns.length === 0) this.turnsBox.replaceChildren();
    this.turns.push(turn);
    part(turn.root, "user").textContent = prompt;
    part(turn.root, "request").addEventListener("click", () => showRequest(turn.request, `What ${this.letter} was asked`));
    part(turn.root, "again").addEventListener("click", () => this.again(turn));
    part(turn.root, "copy").addEventListener("click", () => this.copy(turn));
    this.turnsBox.append(turn.root);
    return this.answer(turn);
  }

  async copy(turn) {
    try {
      await copyText(turn.answer);
      part(turn.root, "copy").textContent = "Copied";
      announce("Copied");
    } catch {
      announce("The browser does not let this page copy");
    }
  }

  // The last question once more, of the voice and with the sampling that are chosen now.
  again(turn) {
    if (this.isBusy() || turn !== this.turns.at(-1)) return null;
    try {
      turn.request = makeRequest(this.voice.base, this.voice.uses(), this.turns.slice(0, -1), turn.prompt);
    } catch (error) {
      this.showError(turn, error);
      return null;
    }
    return this.answer(turn);
  }

  showError(turn, error) {
    const box = part(turn.root, "error");
    box.textContent = errorText(error);
    box.hidden = false;
    part(turn.root, "answer").classList.add("failed");
  }

  begin(turn) {
    const uses = this.voice.uses();
    turn.answer = "";
    part(turn.root, "who").textContent = this.voice.label();
    paintSwatch(part(turn.root, "swatch"), uses);
    part(turn.root, "error").hidden = true;
    part(turn.root, "answer").className = "answer waiting";
    part(turn.root, "stats").textContent = "";
    part(turn.root, "copy").hidden = true;
    part(turn.root, "copy").textContent = "Copy";
    for (const t of this.turns) part(t.root, "again").hidden = true;
    this.turnsBox.setAttribute("aria-busy", "true");
    this.turnsBox.scrollTop = this.turnsBox.scrollHeight;
  }

  async answer(turn) {
    const abort = new AbortController();
    const answer = new Answer(this, turn);
    let ending = "";
    this.running = abort;
    this.begin(turn);
    answer.paint();
    this.changed();
    try {
      for await (const event of events("POST", ROUTE, toJson(turn.request), abort.signal)) {
        answer.take(event);
        if (answer.first) part(turn.root, "answer").classList.remove("waiting");
      }
      if (!answer.finish && !abort.signal.aborted) throw new Error("the answer ended before it was whole");
    } catch (error) {
      if (abort.signal.aborted) ending = "stopped";
      else this.showError(turn, error);
      if (!abort.signal.aborted) ending = "failed";
    }
    this.end(turn, answer, ending);
  }

  end(turn, answer, ending) {
    answer.paint();
    this.running = null;
    // What was stopped is part of the conversation, what failed is not.
    turn.answer = ending === "failed" ? "" : answer.text;
    part(turn.root, "answer").classList.remove("waiting");
    part(turn.root, "stats").textContent = answer.figures(ending);
    part(turn.root, "again").hidden = turn !== this.turns.at(-1);
    part(turn.root, "copy").hidden = answer.text === "";
    this.turnsBox.removeAttribute("aria-busy");
    announce(`${this.letter}, ${this.voice.label()}: ${ending || "done"}, ${count(answer.tokens)} tokens`);
    this.changed();
  }

  changed() {
    part(this.root, "stop").hidden = !this.isBusy();
    this.onstate();
  }
}
