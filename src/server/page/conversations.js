// Conversations, as the browser keeps them: nothing of them leaves this machine but what is sent to be answered.
"use strict";

const STORE = "genarm-conversations";
const OPEN = "genarm-open";

/** The id of the conversation that was open last. */
function storedOpen() {
  try { return localStorage.getItem(OPEN); } catch { return null; }
}

/** Remembers which conversation is open; null for none. A browser that keeps nothing is used without. */
function storeOpen(id) {
  try {
    if (id === null) localStorage.removeItem(OPEN);
    else localStorage.setItem(OPEN, id);
  } catch { /* nothing is kept */ }
}

/** All conversations, the one that was changed last first. What is none of them is left out. */
function storedConversations() {
  try {
    const list = JSON.parse(localStorage.getItem(STORE) ?? "[]");
    const isOne = (one) => typeof one?.id === "string" && typeof one.name === "string" && Array.isArray(one.turns) && one.turns.every(isTurn);
    return Array.isArray(list) ? list.filter(isOne) : [];
  } catch {
    return [];
  }
}

const storedConversation = (id) => storedConversations().find((one) => one.id === id);
const isTurn = (turn) => typeof turn?.user === "string" || typeof turn?.guided?.text === "string";

/** Keeps them. Where the browser has no room, the tokens of the oldest ones go first, those of the open one last. No text is dropped for
 * another: false where there is no room for all of them. */
function storeConversations(list) {
  const kept = [...list];
  const tryAll = () => {
    try { localStorage.setItem(STORE, JSON.stringify(kept)); return true; } catch { return false; }
  };
  if (tryAll()) return true;
  for (let at = kept.length - 1; at >= 0; at--) {
    if (!kept[at].turns.some(hasTokens)) continue;
    kept[at] = { ...kept[at], turns: kept[at].turns.map(withoutTokens) };
    if (tryAll()) return true;
  }
  return false;
}

/** Makes room for something else: the oldest conversation that has tokens loses them. */
function makeRoom() {
  const list = storedConversations();
  const at = list.findLastIndex((one) => one.turns.some(hasTokens));
  if (at < 0) return false;
  list[at] = { ...list[at], turns: list[at].turns.map(withoutTokens) };
  return storeConversations(list);
}

const hasTokens = (turn) => [turn.guided, turn.base, ...(turn.others ?? [])].some((answer) => answer?.tokens?.length);

function withoutTokens(turn) {
  // Without tokens no place in them is marked.
  const bare = (answer) => answer && { ...answer, tokens: [], changes: [], cut: null };
  return turn.user !== undefined ? turn : { ...turn, guided: bare(turn.guided), base: bare(turn.base), others: turn.others?.map(bare) };
}

/** An answer as it is kept: its numbers with three digits, without what only the open page needs. */
function keptAnswer(answer) {
  if (!answer) return undefined;
  const { element, drawing, drawAfter, rewardsOpen, ...rest } = answer;
  const short = (x) => (typeof x === "number" ? Math.round(x * 1000) / 1000 : x);
  const tokens = answer.tokens.map((token) => ({
    token: token.token, text: token.text, bare: token.bare, guided: short(token.guided), base: short(token.base), kl: short(token.kl), flipped: token.flipped,
    arms: Object.fromEntries(Object.entries(token.arms).map(([name, x]) => [name, short(x)])),
  }));
  return { ...rest, tokens };
}

function keptTurn(turn) {
  if (turn.user !== undefined) return { user: turn.user };
  return { guided: keptAnswer(turn.guided), base: keptAnswer(turn.base), others: turn.others?.map(keptAnswer) };
}

/** A conversation's name: the beginning of what the user said first. */
function nameOf(turns) {
  const first = turns.find((turn) => turn.user !== undefined)?.user ?? "";
  const line = first.trim().split("\n")[0];
  return line.length > 48 ? `${line.slice(0, 47)}…` : line || "New conversation";
}

/** A conversation as Markdown. */
function asMarkdown({ name, system, turns }) {
  const parts = [`# ${name}`];
  if (system) parts.push(`*System: ${system}*`);
  for (const turn of turns) {
    if (turn.user !== undefined) parts.push(`**User**\n\n${turn.user}`);
    else parts.push(`**Assistant** (${named(turn.guided.weights)})\n\n${turn.guided.text}`);
  }
  return parts.join("\n\n") + "\n";
}

/** Reads a file that was exported here or written by `genarm chat`; null where it is neither. */
function importedConversation(text) {
  let read;
  try { read = JSON.parse(text); } catch { return null; }
  if (Array.isArray(read?.turns) && read.turns.every(isTurn)) {
    return { system: String(read.system ?? ""), turns: read.turns.map(repaired), name: String(read.name ?? nameOf(read.turns)) };
  }
  if (!Array.isArray(read?.messages)) return null;
  const isMessage = (message) => ["system", "user", "assistant"].includes(message?.role) && typeof message.content === "string";
  if (!read.messages.every(isMessage)) return null;
  const system = read.messages.find((message) => message.role === "system")?.content;
  const said = read.messages.filter((message) => message.role !== "system");
  const turns = said.map(({ role, content }) => repaired(role === "user" ? { user: content } : { guided: { weights: read.weights, text: content } }));
  return { system: String(read.system ?? system ?? ""), turns, name: nameOf(turns) };
}

/** A turn from a file or an older page, with all that this page needs of it. */
function repaired(turn) {
  if (turn.user !== undefined) return { user: String(turn.user) };
  const number = (x, otherwise = undefined) => (typeof x === "number" && Number.isFinite(x) ? x : otherwise);
  const numbers = (object) => Object.fromEntries(Object.entries(object ?? {}).filter(([, x]) => typeof x === "number"));
  const piece = (text) => (text ? [{ text, token: text, arms: {}, bare: true }] : []);
  const token = (one) => ({
    token: String(one?.token ?? one?.text ?? ""), text: String(one?.text ?? ""), flipped: Boolean(one?.flipped), arms: numbers(one?.arms),
    guided: number(one?.guided, 0), base: number(one?.base, 0), kl: number(one?.kl, 0), bare: Boolean(one?.bare) || typeof one?.base !== "number",
  });
  const whole = (answer) => {
    if (typeof answer?.text !== "string") return undefined;
    // A text whose tokens were not kept is one piece, about which nothing is known.
    const tokens = Array.isArray(answer.tokens) && answer.tokens.length ? answer.tokens.map(token) : piece(answer.text);
    const changes = (Array.isArray(answer.changes) ? answer.changes : []).filter((change) => Number.isInteger(change?.at)).map(({ at, weights }) => ({ at, weights: numbers(weights) }));
    const cut = Number.isInteger(answer.cut) && answer.cut < tokens.length - 1 ? answer.cut : null;
    const kind = ["guided", "base", "second"].includes(answer.kind) ? answer.kind : "guided";
    const text = (x) => (typeof x === "string" ? x : null);
    const list = (x, is) => (Array.isArray(x) ? x.filter(is) : []);
    const { timings, seed, weights_log, dropped_messages } = answer.meta ?? {};
    const meta = answer.meta && { timings: numbers(timings), seed: number(seed), weights_log: list(weights_log, isChange), dropped_messages: number(dropped_messages) };
    const used = number(answer.usage?.total_tokens);
    return {
      ...newAnswer(kind, numbers(answer.weights)), text: tokens.map((one) => one.text).join(""), tokens, changes, cut, meta, usage: used && { total_tokens: used },
      error: text(answer.error), finish: text(answer.finish), made: number(answer.made, 0), begun: number(answer.begun, 0),
      temperature: number(answer.temperature, 1), max: number(answer.max, 200), truncates: Boolean(answer.truncates), system: text(answer.system),
      personas: list(answer.personas, isPersona), continued: Boolean(answer.continued), edited: Boolean(answer.edited),
    };
  };
  const others = Array.isArray(turn.others) ? turn.others.map(whole).filter(Boolean) : undefined;
  return { guided: whole(turn.guided), base: whole(turn.base), others };
}

// ---------------------------------------------------------------- the list

const newId = () => crypto.randomUUID?.() ?? String(Math.random()).slice(2);

/** Keeps the conversation that is open in the browser; one without a turn is forgotten. */
function keep() {
  const stored = storedConversations();
  const there = stored.find((one) => one.id === state.id);
  // Another tab has gone on with it: what is here becomes a conversation of its own.
  if (there && state.changed !== null && there.changed !== state.changed) state.id = newId();
  const others = stored.filter((other) => other.id !== state.id);
  if (!state.turns.length) {
    if (state.id !== null) { storeConversations(others); storeOpen(null); state.id = null; showConversations(); }
    return;
  }
  state.id ??= newId();
  state.changed = Date.now();
  const one = {
    id: state.id, name: state.name || nameOf(state.turns), given: Boolean(state.name), changed: state.changed, system: $("system").value,
    weights: weights("a"), second: weights("b"), personas: personas(), turns: state.turns.map(keptTurn),
  };
  if (!storeConversations([one, ...others])) say("the browser has no room to keep this: export it, or delete other conversations");
  storeOpen(state.id);
  showConversations();
}

function openConversation(one) {
  if (!one) return;
  leave();
  state.id = one.id;
  state.changed = one.changed ?? null;
  state.name = one.given ? one.name : "";
  state.turns = one.turns.map(repaired);
  forgetSteps();
  if (typeof one.system === "string") $("system").value = one.system;
  state.arms = state.arms.filter((arm) => arm.system === undefined);
  for (const persona of Array.isArray(one.personas) ? one.personas.filter(isPersona) : []) addPersona(persona.name, persona.system);
  for (const arm of state.arms) {
    setWeight("a", arm.name, one.weights?.[arm.name]);
    setWeight("b", arm.name, one.second?.[arm.name] ?? one.weights?.[arm.name]);
  }
  // A message whose answer never came.
  if (state.turns.at(-1)?.user !== undefined) {
    giveBack(state.turns.pop().user);
  }
  storeOpen(one.id);
  showSliders();
  showTalk(true);
  showConversations();
}

/** Ends what is being written, and keeps it. */
function leave() {
  if (!state.running) return;
  state.running.abort();
  keep();
}

/** What only held for the conversation that was open. */
function forgetSteps() {
  state.replay = state.removed = null;
  $("undo").hidden = true;
}

function newConversation() {
  leave();
  state.id = state.changed = null;
  state.name = "";
  state.turns = [];
  forgetSteps();
  storeOpen(null);
  showTalk();
  showConversations();
  $("message").focus();
}

/** The conversations that hold what is sought. */
function soughtConversations() {
  const sought = $("search").value.trim().toLowerCase();
  const texts = (one) => [one.name, ...one.turns.map((turn) => turn.user ?? turn.guided.text)];
  return storedConversations().filter((one) => !sought || texts(one).some((text) => text.toLowerCase().includes(sought)));
}

function showConversations() {
  // A name that is being written stays.
  if ($("conversations").querySelector("input")) return;
  const list = soughtConversations();
  $("search").hidden = !$("search").value && list.length < 2;
  $("conversations").replaceChildren(...list.map((one) => {
    const open = make("button", { type: "button", className: "open", textContent: one.name });
    if (one.id === state.id) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => { if (one.id !== state.id) openConversation(storedConversation(one.id)); });
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
  let isDone = false;
  const done = (keeps) => {
    if (isDone) return;
    isDone = true;
    input.remove();
    const name = input.value.trim();
    if (keeps && name) {
      if (one.id === state.id) state.name = name;
      storeConversations(storedConversations().map((other) => (other.id === one.id ? { ...other, name, given: true } : other)));
    }
    showConversations();
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !isComposing(event)) done(true);
    // It ends the renaming, and not the answer.
    if (event.key === "Escape") { event.stopPropagation(); done(false); }
  });
  input.addEventListener("blur", () => done(true));
  item.replaceChildren(input);
  input.select();
}

/** How much of the context the conversation fills. */
function showContext() {
  const used = state.turns.findLast((turn) => turn.guided?.usage)?.guided.usage.total_tokens ?? 0;
  $("context").hidden = !used || !state.nCtx;
  $("context").max = state.nCtx;
  $("context").value = used;
  $("context").title = $("context").ariaLabel = `${used} of ${state.nCtx} tokens of the context are used`;
}
