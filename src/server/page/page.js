// Chat with a guided model, steer it with sliders, and see what each ARM says about every token.
// All text from the model enters the page as text nodes, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const state = {
  arms: [],          // {name, weight}
  profiles: {},      // name → {ARM: weight}
  turns: [],         // {user} or {guided, base?}: answers, see newAnswer
  running: null,     // AbortController of what is being generated
  steered: null,     // the guided answer while it is being generated: sliders change its weights
  key: sessionStorage.getItem("genarm-key") || "",
  id: null,          // of the conversation that is open
  name: "",          // where it was given one
  nCtx: 0,           // tokens that a conversation may have
};

/** Makes an element: make("p", {className: "quiet"}, "text", child). */
function make(tag, props = {}, ...children) {
  const { dataset, ...rest } = props;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

async function api(path, options = {}) {
  const headers = { "Content-Type": "application/json" };
  if (state.key) headers.Authorization = `Bearer ${state.key}`;
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    state.key = await askForKey();
    sessionStorage.setItem("genarm-key", state.key);
    return api(path, options);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Error(body?.error?.message ?? `the server answered ${response.status}`);
  }
  return response;
}

function askForKey() {
  const dialog = $("key");
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { resolve($("key-input").value.trim()); $("key-input").value = ""; }, { once: true });
  });
}

// ---------------------------------------------------------------- preferences

async function load() {
  const preferences = await (await api("/v1/preferences")).json();
  state.arms = preferences.arms;
  state.profiles = preferences.profiles;
  state.chat = preferences.chat;
  $("model").textContent = preferences.model;
  $("temperature").value = Math.round(preferences.sampling.temperature * 1000) / 1000;
  $("system").value = preferences.system ?? "";
  showSliders();
  showProfiles();
  const options = [["", "nothing"], ...state.arms.map((arm) => [arm.name, arm.name])];
  $("colour").replaceChildren(...options.map(([value, text]) => make("option", { value, textContent: text })));
  if (state.arms.length) $("colour").value = state.arms[0].name;
  showLegend();
  state.nCtx = (await (await api("/props")).json()).default_generation_settings.n_ctx;
  const open = storedConversations().find((one) => one.id === storedOpen());
  if (open) openConversation(open);
  else showTalk();
  showConversations();
}

function showSliders() {
  if (!state.arms.length) {
    $("sliders").replaceChildren(make("p", { className: "quiet", textContent: "No ARM is loaded: answers come from the base alone." }));
    return;
  }
  $("sliders").replaceChildren(...state.arms.map((arm, i) => {
    const reach = Math.max(2, Math.ceil(Math.abs(arm.weight) * 1.5));
    // Where `genarm calibrate` has found out how far the ARM may go, the slider ends there.
    const [least, most] = arm.range ?? [-reach, reach];
    // Both ends on the step, which counts from the lower one: so 0 can be reached.
    const end = (value, round) => round(Math.round(value * 1000) / 50) / 20;
    const min = end(Math.min(least, arm.weight), Math.floor), max = end(Math.max(most, arm.weight), Math.ceil);
    const range = make("input", { id: `arm-${i}`, type: "range", min, max, step: 0.05, value: arm.weight, dataset: { arm: arm.name } });
    const number = make("input", { type: "number", min: -100, max: 100, step: 0.05, value: round(arm.weight), ariaLabel: `${arm.name}, exact weight` });
    const set = (value, from) => {
      if (!Number.isFinite(value)) return;
      arm.weight = Math.max(-100, Math.min(100, value));
      if (from !== range) range.value = arm.weight;
      if (from !== number) number.value = round(arm.weight);
      showProfiles();
      steer();
    };
    range.addEventListener("input", () => set(range.valueAsNumber, range));
    number.addEventListener("input", () => set(number.valueAsNumber, number));
    return make("div", { className: "slider" }, make("label", { htmlFor: range.id, textContent: arm.name }), number, range);
  }));
}

function showProfiles() {
  const matches = (profile) => state.arms.every((arm) => Math.abs((profile[arm.name] ?? 0) - arm.weight) < 1e-6);
  const focused = document.activeElement?.dataset?.profile;
  $("profiles").replaceChildren(...Object.entries(state.profiles).map(([name, profile]) => {
    const button = make("button", { type: "button", textContent: name, dataset: { profile: name } });
    button.setAttribute("aria-pressed", matches(profile));
    button.addEventListener("click", () => {
      state.arms.forEach((arm) => { arm.weight = profile[arm.name] ?? arm.weight; });
      showSliders();
      showProfiles();
      steer();
    });
    return button;
  }));
  if (focused) [...$("profiles").children].find((button) => button.dataset.profile === focused)?.focus();
}

const weights = () => Object.fromEntries(state.arms.map((arm) => [arm.name, arm.weight]));
const round = (x) => Math.round(x * 1000) / 1000;
const named = (w) => Object.entries(w).map(([name, x]) => `${name} ${round(x)}`).join(" · ") || "no ARMs";

// ---------------------------------------------------------------- answers

function newAnswer(kind, used) {
  return { kind, weights: used, text: "", tokens: [], changes: [], begun: 0, id: null, cut: null, meta: null, error: null, element: null, finish: null, made: Date.now() };
}

/** The weights that an answer has at its end. */
const weightsOf = (answer) => (answer.changes.at(-1) ?? answer).weights;

/** The conversation as messages, up to a turn. */
function messages(end) {
  const list = [];
  if ($("system").value.trim()) list.push({ role: "system", content: $("system").value });
  for (const turn of state.turns.slice(0, end)) {
    if (turn.user !== undefined) list.push({ role: "user", content: turn.user });
    else list.push({ role: "assistant", content: turn.guided.text });
  }
  return list;
}

function request(list, used, seed, begun) {
  const body = {
    messages: begun === "" ? list : [...list, { role: "assistant", content: begun }],
    continue_final_message: begun !== "",
    preferences: used, seed, cache_prompt: true, stream: true, return_rewards: true,
    stream_options: { include_usage: true },
    temperature: Number($("temperature").value), max_tokens: Number($("max").value),
  };
  return body;
}

/** Sends a request and takes its events as they come. */
async function stream(answer, body, signal) {
  try {
    const response = await api("/v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const bytes = new TextDecoder();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
        if (data && data !== "[DONE]") take(answer, JSON.parse(data), bytes);
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") answer.error = error.message;
  }
}

function take(answer, chunk, bytes) {
  if (chunk.error) { answer.error = chunk.error.message; return; }
  if (chunk.id) answer.id = chunk.id;
  if (chunk.genarm) answer.meta = chunk.genarm;
  if (chunk.genarm?.weights_log) {
    for (const change of chunk.genarm.weights_log.slice(1)) markChange(answer, answer.begun + change.token, change.weights);
  }
  if (chunk.usage) answer.usage = chunk.usage;
  const choice = chunk.choices?.[0];
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  for (const token of choice?.rewards ?? []) {
    // A character may be spread over several tokens: it appears with its last one.
    token.text = bytes.decode(Uint8Array.from(token.bytes), { stream: true });
    answer.text += token.text;
    answer.tokens.push(token);
    appendToken(answer, token);
  }
}

// ---------------------------------------------------------------- steering

const STEER_AFTER = 80; // milliseconds without another movement
let steerTimer;
let steering = false;

/** Sends the sliders' weights to the answer that is being written, soon. */
function steer() {
  clearTimeout(steerTimer);
  if (state.steered) steerTimer = setTimeout(() => change(state.steered), STEER_AFTER);
}

async function change(answer) {
  if (!answer || answer !== state.steered) return;
  // Changes go out one after the other.
  if (!answer.id || steering) return steer();
  const used = weights();
  steering = true;
  try {
    const response = await api(`/v1/generations/${answer.id}`, { method: "PATCH", body: JSON.stringify({ preferences: used }) });
    const changed = await response.json();
    for (const choice of changed.choices) markChange(answer, answer.begun + choice.token, changed.weights);
  } catch (error) {
    // The answer may have ended meanwhile; otherwise the next movement sends all weights again.
    if (answer === state.steered) $("status").textContent = error.message;
  } finally {
    steering = false;
  }
}

/** Remembers that the weights change before a token, and marks it where it is there already. */
function markChange(answer, at, used) {
  const before = answer.changes.filter((change) => change.at < at).at(-1) ?? answer;
  if (named(before.weights) === named(used)) return;
  answer.changes = [...answer.changes.filter((change) => change.at !== at), { at, weights: used }].sort((a, b) => a.at - b.at);
  const span = answer.element?.querySelector(".tokens").children[at];
  if (span) showChange(span, used);
}

function showChange(span, used) {
  span.classList.add("changed");
  span.changed = used;
}

async function generate(turn, list, begun, seed) {
  if (state.running) return;
  const control = new AbortController();
  state.running = control;
  state.steered = turn.guided;
  turn.guided.id = null;
  turn.guided.begun = turn.guided.tokens.length;
  showTalk();
  $("stop").hidden = false;
  $("send").disabled = true;
  $("status").textContent = "generating …";
  const answers = [turn.guided, turn.base].filter(Boolean);
  answers.forEach((answer) => answer.element.classList.add("streaming"));
  const known = seed >= 0 ? seed : Math.floor(Math.random() * 2 ** 31);
  const write = async (answer) => {
    await stream(answer, request(list, weightsOf(answer), known, begun), control.signal);
    // The base's own answer may go on.
    if (answer === state.steered) state.steered = null;
  };
  await Promise.all(answers.map(write));
  state.running = null;
  $("stop").hidden = true;
  $("send").disabled = false;
  const speed = turn.guided.meta?.timings?.tokens_per_second;
  $("status").textContent = turn.guided.error ?? (control.signal.aborted ? "stopped" : speed ? `${speed.toFixed(1)} tokens/s` : "");
  // A message that was not answered goes back to where it was written.
  const at = state.turns.indexOf(turn);
   if (turn.guided.error && !turn.guided.text && at > 0 && at === state.turns.length - 1 && !turn.others?.length) {
    const [said] = state.turns.splice(at - 1, 2);
    if (!$("message").value) $("message").value = said.user;
  }
  // Where another conversation has been opened meanwhile, this one is kept already.
  if (at >= 0) keep();
  showTalk();
}

function send(text) {
  state.turns.push({ user: text });
  keep();
  answerLast();
}

/** Answers the last message again; the answer of now is kept beside the new one. */
function answerAgain(turn) {
  const others = [...(turn.others ?? []), turn.guided];
  state.turns.pop();
  answerLast(others);
}

/** Another one of the answers to a message takes the place of the one that is shown. */
function turnTo(turn, by) {
  const all = [...(turn.others ?? []), turn.guided].sort((a, b) => (a.made ?? 0) - (b.made ?? 0));
  const next = all[all.indexOf(turn.guided) + by];
  if (!next || state.running) return;
  turn.others = all.filter((answer) => answer !== next);
  turn.guided = next;
  delete turn.base;
  keep();
  showTalk();
}

/** Writes a message anew: the conversation up to it goes on as one of its own, and the old one stays. */
function editMessage(at) {
  if (state.running) return;
  const text = state.turns[at].user;
  const before = state.turns.slice(0, at);
  keep();
  state.id = null;
  state.name = "";
  state.turns = JSON.parse(JSON.stringify(before.map(keptTurn))).map(repaired);
  $("message").value = text;
  showTalk();
  showConversations();
  $("message").focus();
}

/** Answers the last message. */
function answerLast(others) {
  const list = messages(state.turns.length);
  const turn = { guided: newAnswer("guided", weights()), others };
  if ($("compare").checked) turn.base = newAnswer("base", Object.fromEntries(state.arms.map((arm) => [arm.name, 0])));
  state.turns.push(turn);
  generate(turn, list, "", Number($("seed").value));
}

/** Goes on with the last answer, from its marked token or its end, under the weights of now. */
function continueAnswer(turn) {
  const answer = turn.guided;
  if (answer.cut !== null) {
    answer.tokens.length = answer.cut + 1;
    answer.text = answer.tokens.map((token) => token.text).join("");
    answer.cut = null;
  }
  answer.changes = answer.changes.filter((change) => change.at < answer.tokens.length);
  markChange(answer, answer.tokens.length, weights());
  answer.error = null;
  delete turn.base;
  const list = messages(state.turns.indexOf(turn));
  generate(turn, list, answer.text, Number($("seed").value));
}

// ---------------------------------------------------------------- showing

function showTalk() {
  $("talk").classList.toggle("wide", state.turns.some((turn) => turn.base));
  if (!state.turns.length) {
    const text = state.chat
      ? "Move a weight, send a message, and see how each reward model scores every token."
      : "This base has no chat template. Start the server with --chat-template, for example chatml or raw.";
    $("talk").replaceChildren(make("div", { className: "empty" }, make("h2", { textContent: "Steer a language model by hand" }), make("p", { textContent: text })));
    return;
  }
  $("talk").replaceChildren(...state.turns.map((turn, i) => {
    if (turn.user !== undefined) {
      const edit = make("button", { type: "button", className: "edit", textContent: "Edit", ariaLabel: `Edit the message: ${turn.user.slice(0, 40)}` });
      edit.addEventListener("click", () => editMessage(i));
      return make("div", { className: "user" }, make("span", { textContent: turn.user }), edit);
    }
    const last = i === state.turns.length - 1;
    const box = make("div", { className: turn.base ? "turn pair" : "turn" });
    for (const answer of [turn.base, turn.guided].filter(Boolean)) box.append(showAnswer(answer, turn, last));
    return box;
  }));
  showContext();
  scrollDown();
}

function showAnswer(answer, turn, last) {
  const title = answer.kind === "base" ? make("b", { textContent: "base alone" }) : make("b", { textContent: "guided" });
  const tokens = make("div", { className: "tokens", tabIndex: 0, role: "group", ariaLabel: `${answer.kind} answer; arrow keys walk its tokens` });
  const element = make("article", { className: `answer ${answer.kind}` },
    make("h3", {}, title, answer.kind === "base" ? "" : make("span", { textContent: named(weightsOf(answer)) })), tokens);
  answer.element = element;
  answer.tokens.forEach((token) => appendToken(answer, token));
  if (answer.cut !== null) tokens.children[answer.cut]?.classList.add("cut", "current");
  walk(tokens, answer);
  if (answer.finish === "length" && !state.running) element.append(make("p", { className: "cut-off", textContent: "Cut off: at “Max tokens”, or because the context is full." }));
  if (answer.error) element.append(make("p", { className: "error", textContent: answer.error }));
  if (!state.running) element.append(footer(answer, turn, last));
  return element;
}

function footer(answer, turn, last) {
  const foot = make("footer");
  const times = answer.meta?.timings;
  const flips = answer.tokens.filter((token) => token.flipped).length;
  const facts = [`${answer.tokens.length} tokens`];
  if (times?.tokens_per_second) facts.push(`${times.tokens_per_second.toFixed(1)} tokens/s`);
  if (times?.acceptance !== undefined) facts.push(`acceptance ${(times.acceptance * 100).toFixed(0)} %`);
  if (answer.kind === "guided") facts.push(`${flips} changed by guidance`);
  if (answer.meta?.seed !== undefined) facts.push(`seed ${answer.meta.seed}`);
  foot.append(facts.join(" · "));
  if (last && answer.kind === "guided") {
    const go = make("button", { type: "button", className: "continue", textContent: answer.cut === null ? "Continue from here" : "Continue from the marked token" });
    go.addEventListener("click", () => continueAnswer(turn));
    const again = make("button", { type: "button", className: "retry", textContent: "Answer again" });
    again.addEventListener("click", () => answerAgain(turn));
    foot.append(go, again);
    if (turn.others?.length) {
      const all = [...turn.others, turn.guided].sort((a, b) => (a.made ?? 0) - (b.made ?? 0));
      const at = all.indexOf(turn.guided);
      const arrow = (by, text, label) => {
        const button = make("button", { type: "button", className: "version", textContent: text, ariaLabel: label, disabled: !all[at + by] });
        button.addEventListener("click", () => turnTo(turn, by));
        return button;
      };
      foot.append(make("span", { className: "versions" }, arrow(-1, "‹", "Earlier answer"), ` answer ${at + 1} of ${all.length} `, arrow(1, "›", "Later answer")));
    }
  }
  return foot;
}

function appendToken(answer, token) {
  const tokens = answer.element?.querySelector(".tokens");
  if (!tokens) return;
  const span = make("span", { className: "token", textContent: token.text });
  span.token = token;
  if (token.flipped && answer.kind === "guided") span.classList.add("flipped");
  const changed = answer.changes.find((change) => change.at === tokens.children.length);
  if (changed) showChange(span, changed.weights);
  colour(span);
  const follow = atBottom();
  tokens.append(span);
  if (follow) scrollDown();
}

/** What the colour of a token stands for: an ARM's log-probability, or how it differs from the base's. */
function reward(token) {
  const arm = token.arms[$("colour").value];
  if (arm === undefined) return null;
  return $("relative").checked ? arm - token.base : arm;
}

/** Blue for what the ARM likes, orange for what it does not; the middle is 0 (relative) or −3 nats. */
function colour(span) {
  const value = span.token.bare ? null : reward(span.token);
  if (value === null) { span.style.removeProperty("background-color"); return; }
  const x = Math.max(-1, Math.min(1, $("relative").checked ? value / 3 : (value + 3) / 3));
  span.style.setProperty("background-color", `rgba(var(--${x < 0 ? "bad" : "good"}), ${(Math.abs(x) * 0.6).toFixed(3)})`);
}

function showLegend() {
  const relative = $("relative").checked;
  $("legend-low").textContent = relative ? "−3 nats" : "−6 nats";
  $("legend-high").textContent = relative ? "+3" : "0";
  document.querySelectorAll(".tokens .token").forEach(colour);
}

function tip(span) {
  const token = span.token;
  if (token.bare) return;
  const row = (name, value) => make("tr", {}, make("td", { textContent: name }), make("td", { textContent: value.toFixed(3) }));
  const table = make("table", {}, row("guided", token.guided), row("base", token.base), ...Object.entries(token.arms).map(([name, value]) => row(name, value)), row("KL to the base", token.kl));
  const changed = token.flipped ? [make("div", { textContent: "guidance changed the likeliest token" })] : [];
  if (span.changed) changed.push(make("div", { textContent: `from here on: ${named(span.changed)}` }));
  $("tip").replaceChildren(make("b", { textContent: JSON.stringify(token.token) }), table, ...changed);
  $("tip").hidden = false;
  const box = span.getBoundingClientRect(), size = $("tip").getBoundingClientRect();
  const top = box.bottom + size.height + 12 > innerHeight ? box.top - size.height - 8 : box.bottom + 8;
  $("tip").style.setProperty("left", `${Math.max(6, Math.min(box.left, innerWidth - size.width - 6))}px`);
  $("tip").style.setProperty("top", `${Math.max(6, top)}px`);
}

/** Tokens answer to the mouse, and to the arrow keys while their answer has the focus; Enter marks one to continue from. */
function walk(tokens, answer) {
  let at = -1;
  const current = (span) => {
    tokens.querySelector(".current:not(.cut)")?.classList.remove("current");
    span.classList.add("current");
    tip(span);
  };
  const mark = (i) => {
    if (state.running || answer.kind !== "guided") return;
    answer.cut = answer.cut === i || i === tokens.children.length - 1 ? null : i;
    showTalk();
    answer.element.querySelector(".tokens").focus();
  };
  tokens.addEventListener("mouseover", (event) => { if (event.target.token) tip(event.target); });
  tokens.addEventListener("mouseout", () => { $("tip").hidden = true; });
  tokens.addEventListener("click", (event) => {
    if (event.target.token && answer === lastAnswer()) mark([...tokens.children].indexOf(event.target));
  });
  tokens.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && tokens.children.length) {
      at = Math.max(0, Math.min(tokens.children.length - 1, at + step));
      current(tokens.children[at]);
      event.preventDefault();
    } else if (event.key === "Enter" && at >= 0 && answer === lastAnswer()) {
      mark(at);
      event.preventDefault();
    }
  });
  tokens.addEventListener("blur", () => { $("tip").hidden = true; tokens.querySelector(".current:not(.cut)")?.classList.remove("current"); });
}

const lastAnswer = () => state.turns.at(-1)?.guided;
const atBottom = () => $("talk").scrollHeight - $("talk").scrollTop - $("talk").clientHeight < 60;
const scrollDown = () => { $("talk").scrollTop = $("talk").scrollHeight; };

// ---------------------------------------------------------------- conversations

/** Keeps the conversation that is open in the browser. */
function keep() {
  if (!state.turns.length) return;
  state.id ??= crypto.randomUUID?.() ?? String(Math.random()).slice(2);
  const one = { id: state.id, name: state.name || nameOf(state.turns), given: Boolean(state.name), changed: Date.now(), system: $("system").value, weights: weights(), turns: state.turns.map(keptTurn) };
  const others = storedConversations().filter((other) => other.id !== state.id);
  if (!storeConversations([one, ...others])) $("status").textContent = "this conversation is too long for the browser to keep; export it";
  storeOpen(state.id);
  showConversations();
}

function openConversation(one) {
  leave();
  state.id = one.id;
  state.name = one.given ? one.name : "";
  state.turns = one.turns.map(repaired);
  if (one.system !== undefined) $("system").value = one.system;
  for (const arm of state.arms) if (Number.isFinite(one.weights?.[arm.name])) arm.weight = one.weights[arm.name];
  storeOpen(one.id);
  showSliders();
  showProfiles();
  showTalk();
}

/** Ends what is being written, and keeps it. */
function leave() {
  if (!state.running) return;
  state.running.abort();
  keep();
}

function newConversation() {
  leave();
  state.id = null;
  state.name = "";
  state.turns = [];
  storeOpen(null);
  showTalk();
  showConversations();
  $("message").focus();
}

/** The conversations that hold what is sought. */
function soughtConversations() {
  const sought = $("search").value.trim().toLowerCase();
  const texts = (one) => [one.name, ...one.turns.map((turn) => turn.user ?? turn.guided?.text ?? "")];
  return storedConversations().filter((one) => !sought || texts(one).some((text) => text.toLowerCase().includes(sought)));
}

function showConversations() {
  const list = soughtConversations();
  $("search").hidden = !$("search").value && list.length < 2;
  $("conversations").replaceChildren(...list.map((one) => {
    const open = make("button", { type: "button", className: "open", textContent: one.name });
    if (one.id === state.id) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => { openConversation(one); showConversations(); });
    const rename = make("button", { type: "button", textContent: "Rename", ariaLabel: `Rename ${one.name}` });
    rename.addEventListener("click", () => renameConversation(one));
    const remove = make("button", { type: "button", textContent: "Delete", ariaLabel: `Delete ${one.name}` });
    remove.addEventListener("click", () => {
      if (one.id === state.id) newConversation();
      storeConversations(storedConversations().filter((other) => other.id !== one.id));
      showConversations();
    });
    return make("li", {}, open, rename, remove);
  }));
}

function renameConversation(one) {
  const input = make("input", { value: one.name, ariaLabel: "Name of the conversation", maxLength: 80 });
  const item = [...$("conversations").children][soughtConversations().findIndex((other) => other.id === one.id)];
  const done = () => {
    const name = input.value.trim() || one.name;
    if (one.id === state.id) state.name = name;
    storeConversations(storedConversations().map((other) => (other.id === one.id ? { ...other, name, given: true } : other)));
    showConversations();
  };
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") done(); if (event.key === "Escape") showConversations(); });
  input.addEventListener("blur", done);
  item.replaceChildren(input);
  input.select();
}

/** How much of the context the conversation fills. */
function showContext() {
  const used = state.turns.findLast((turn) => turn.guided?.usage)?.guided.usage.total_tokens ?? 0;
  $("context").hidden = !used || !state.nCtx;
  $("context").max = state.nCtx;
  $("context").value = used;
  $("context").title = `${used} of ${state.nCtx} tokens of the context are used`;
  $("context").textContent = $("context").title;
}

// ---------------------------------------------------------------- keeping

function save(name, kind, text) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** What `genarm chat --load` reads. */
function conversation() {
  const list = messages(state.turns.length).filter((message) => message.role !== "system");
  const system = $("system").value.trim() ? { system: $("system").value } : {};
  return JSON.stringify({ ...system, weights: weights(), messages: list }, null, 2) + "\n";
}

function profile() {
  const line = state.arms.map((arm) => `    ${JSON.stringify(arm.name)}: ${round(arm.weight)}`).join("\n");
  return `profiles:\n  by-hand:\n${line}\n`;
}

// ---------------------------------------------------------------- events

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (!text || state.running) return;
  $("message").value = "";
  send(text);
});
$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("composer").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") state.running?.abort(); });
$("stop").addEventListener("click", () => state.running?.abort());
$("colour").addEventListener("change", showLegend);
$("relative").addEventListener("change", showLegend);
$("export-json").addEventListener("click", () => save("conversation.json", "application/json", conversation()));
$("export-yaml").addEventListener("click", () => save("profile.yaml", "application/yaml", profile()));
$("export-markdown").addEventListener("click", () => save("conversation.md", "text/markdown", asMarkdown({ name: state.name || nameOf(state.turns), system: $("system").value, turns: state.turns })));
$("import").addEventListener("change", async () => {
  const file = $("import").files[0];
  if (!file) return;
  const one = importedConversation(await file.text());
  $("import").value = "";
  if (!one) { $("status").textContent = `${file.name} is no conversation`; return; }
  openConversation({ ...one, id: crypto.randomUUID?.() ?? String(Math.random()).slice(2), given: true });
  keep();
});
$("search").addEventListener("input", showConversations);
$("clear").addEventListener("click", newConversation);
$("toggle").addEventListener("click", () => {
  const open = $("panel").classList.toggle("open");
  $("toggle").setAttribute("aria-expanded", open);
});
load().catch((error) => { $("status").textContent = error.message; });
