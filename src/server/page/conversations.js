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

/** All conversations, the one that was changed last first. */
function storedConversations() {
  try {
    const list = JSON.parse(localStorage.getItem(STORE) ?? "[]");
    return Array.isArray(list) ? list.filter((one) => one && typeof one.id === "string" && Array.isArray(one.turns)) : [];
  } catch {
    return [];
  }
}

/** Keeps them. Where the browser has no room, the tokens of the oldest ones go first, then the oldest ones. */
function storeConversations(list) {
  const kept = [...list];
  for (let at = kept.length - 1; ; at--) {
    try {
      localStorage.setItem(STORE, JSON.stringify(kept));
      return true;
    } catch {
      if (at > 0) kept[at] = { ...kept[at], turns: kept[at].turns.map(withoutTokens) };
      else if (kept.length > 1) { kept.pop(); at = kept.length; }
      else return false;
    }
  }
}

function withoutTokens(turn) {
  const bare = (answer) => answer && { ...answer, tokens: [] };
  return turn.user !== undefined ? turn : { ...turn, guided: bare(turn.guided), base: bare(turn.base), others: turn.others?.map(bare) };
}

/** An answer as it is kept: its numbers with three digits, without what only the open page needs. */
function keptAnswer(answer) {
  if (!answer) return undefined;
  const { element, ...rest } = answer;
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
  if (Array.isArray(read?.turns) && read.turns.every((turn) => typeof turn?.user === "string" || typeof turn?.guided?.text === "string")) {
    return { system: String(read.system ?? ""), turns: read.turns.map(repaired), name: String(read.name ?? nameOf(read.turns)) };
  }
  if (!Array.isArray(read?.messages)) return null;
  const turns = read.messages.map(({ role, content }) => repaired(role === "user" ? { user: String(content) } : { guided: { weights: read.weights ?? {}, text: String(content) } }));
  return { system: String(read.system ?? ""), turns, name: nameOf(turns) };
}

/** A turn from a file, with all that the page needs of it. */
function repaired(turn) {
  if (turn.user !== undefined) return { user: turn.user };
  // A text whose tokens were not kept is one piece, about which nothing is known.
  const piece = (text) => (text ? [{ text, token: text, arms: {}, bare: true }] : []);
  const whole = (answer) => answer && {
    ...newAnswer("guided", {}), ...answer, element: null,
    tokens: Array.isArray(answer.tokens) && answer.tokens.length ? answer.tokens : piece(String(answer.text ?? "")),
  };
  return { guided: whole(turn.guided), base: whole(turn.base), others: turn.others?.map(whole) };
}
