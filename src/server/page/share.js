// What is taken along from a conversation: a link that writes an answer again, and pairs of a better and a worse answer.
"use strict";

const PAIRS = "genarm-pairs";
const MAX_LINK = 32000; // characters; browsers and chat programs cut longer ones

const toBase64 = (text) => btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("")).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const fromBase64 = (text) => new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0)));

/** A link that carries all that an answer was made from. */
function linkOf(answer, at) {
  const carried = {
    v: 1, system: answer.system ?? $("system").value, turns: state.turns.slice(0, at).map((turn) => (turn.user !== undefined ? { user: turn.user } : { said: turn.guided.text })),
    weights: answer.weights, personas: answer.personas ?? [], log: answer.meta?.weights_log ?? [], seed: answer.meta?.seed,
    temperature: answer.temperature, max: answer.max, truncates: answer.truncates,
  };
  return `${location.origin}${location.pathname}#${toBase64(JSON.stringify(carried))}`;
}

const isNumber = (x) => typeof x === "number" && Number.isFinite(x);
const areWeights = (w) => w !== null && typeof w === "object" && Object.values(w).every(isNumber);
const isPersona = (one) => typeof one?.name === "string" && typeof one?.system === "string";
const isChange = (change) => Number.isInteger(change?.token) && areWeights(change?.weights);

/** Reads what a link carries; null where it is no such link. */
function linked(hash) {
  let read;
  try { read = JSON.parse(fromBase64(hash.replace(/^#/, ""))); } catch { return null; }
  const isSaid = (turn) => typeof turn?.user === "string" || (turn?.user === undefined && typeof turn?.said === "string");
  const isRight = read?.v === 1 && typeof read.system === "string" && Array.isArray(read.turns) && read.turns.every(isSaid) && read.turns.at(-1)?.user !== undefined
    && areWeights(read.weights) && Array.isArray(read.personas) && read.personas.every(isPersona) && Array.isArray(read.log) && read.log.every(isChange)
    && isNumber(read.seed) && isNumber(read.temperature) && isNumber(read.max);
  return isRight ? read : null;
}

/** Sets everything as the link says. What is sent next without a change writes the same text. */
function openLink(carried) {
  newConversation();
  const bare = (text) => ({ ...newAnswer("guided", carried.weights), text, tokens: text ? [{ text, token: text, arms: {}, bare: true }] : [] });
  state.turns = carried.turns.slice(0, -1).map((turn) => (turn.user !== undefined ? { user: turn.user } : { guided: bare(turn.said) }));
  state.arms = state.arms.filter((arm) => arm.system === undefined);
  const refused = carried.personas.filter(({ name, system }) => !addPersona(name, system, carried.weights[name] ?? 1)).map(({ name }) => name);
  for (const arm of state.arms) setWeight("a", arm.name, carried.weights[arm.name] ?? (arm.isPreference ? arm.weight : 0));
  $("system").value = carried.system;
  $("temperature").value = carried.temperature;
  $("seed").value = carried.seed;
  $("max").value = carried.max;
  $("truncates").checked = Boolean(carried.truncates);
  $("message").value = carried.turns.at(-1).user;
  state.replay = carried.log.length ? { log: carried.log, message: carried.turns.at(-1).user, weights: JSON.stringify(weights("a")) } : null;
  showSliders();
  showTalk(true);
  const missing = [...refused, ...Object.keys(carried.weights).filter((name) => !state.arms.some((arm) => arm.name === name))];
  say(missing.length ? `the link steers with ${missing.join(", ")}, which this server does not have so` : "from a link: Send writes the same text again");
}

function storedPairs() {
  try {
    const list = JSON.parse(localStorage.getItem(PAIRS) ?? "[]");
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

/** Adds a pair; conversations give up tokens for it where there is no room. */
function storePair(pair) {
  do {
    try { localStorage.setItem(PAIRS, JSON.stringify([...storedPairs(), pair])); return true; } catch { /* no room */ }
  } while (makeRoom());
  return false;
}

/** One of two answers is better: it stays, and both are kept as a pair for `genarm train`. */
function preferAnswer(turn, better) {
  if (state.running) return;
  const worse = better === turn.guided ? turn.base : turn.guided;
  const prompt = messages(state.turns.indexOf(turn), better.system);
  const said = (answer) => [{ role: "assistant", content: answer.text }];
  const pair = {
    prompt, chosen: said(better), rejected: said(worse),
    chosen_weights: weightsOf(better), rejected_weights: weightsOf(worse), seed: better.meta?.seed ?? null, made: new Date().toISOString(),
  };
  if (!storePair(pair)) return say("the browser has no room for this pair: save those that are there, or delete conversations");
  say("kept as a preference pair");
  turn.others = [...(turn.others ?? []), worse].map(asVersion);
  turn.guided = asVersion(better);
  delete turn.base;
  keep();
  showTalk();
  showPairs();
}

function showPairs() {
  const n = storedPairs().length;
  $("export-pairs").hidden = $("forget-pairs").hidden = n === 0;
  $("export-pairs").textContent = `${n} preference ${n === 1 ? "pair" : "pairs"} (JSONL)`;
}

/** What `genarm train` reads. */
const pairsText = () => storedPairs().map((pair) => JSON.stringify(pair) + "\n").join("");
