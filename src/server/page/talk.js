// What is said: messages are sent and answered, answers are written, shown, edited and compared.
"use strict";

function newAnswer(kind, used) {
  return { kind, weights: used, text: "", tokens: [], changes: [], begun: 0, id: null, cut: null, meta: null, error: null, element: null, finish: null, made: Date.now() };
}

/** An answer under what is set now. */
function answerNow(kind, used) {
  const sampling = { temperature: numberIn("temperature", 1), max: numberIn("max", 200), truncates: $("truncates").checked, system: $("system").value };
  return { ...newAnswer(kind, used), ...sampling, personas: kind === "base" ? [] : personas() };
}

/** What a field holds; an empty one has a default. */
const numberIn = (id, otherwise) => (Number.isFinite($(id).valueAsNumber) ? $(id).valueAsNumber : otherwise);

/** The weights that an answer has at its end. */
const weightsOf = (answer) => (answer.changes.at(-1) ?? answer).weights;

/** The conversation as messages, up to a turn. */
function messages(end, system = $("system").value) {
  const list = [];
  if (system?.trim()) list.push({ role: "system", content: system });
  for (const turn of state.turns.slice(0, end)) {
    if (turn.user !== undefined) list.push({ role: "user", content: turn.user });
    else list.push({ role: "assistant", content: turn.guided.text });
  }
  return list;
}

function request(answer, list, seed, begun) {
  const body = {
    messages: begun === "" ? list : [...list, { role: "assistant", content: begun }],
    continue_final_message: begun !== "",
    preferences: weightsOf(answer), seed, cache_prompt: true, stream: true, return_rewards: true,
    stream_options: { include_usage: true },
    temperature: answer.temperature, max_tokens: answer.max,
  };
  if (answer.personas?.length) body.personas = answer.personas;
  if (answer.truncates) body.truncation = "auto";
  if (answer.replays) body.weights_log = answer.replays;
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
  }
  if (choice?.rewards?.length) {
    drawSoon(answer);
    if (answer.kind === "guided") announce(answer, false);
  }
}

/** Sentences that screen readers have not been given yet. */
const unsaid = [];

/** Gives screen readers an answer sentence by sentence, and no two before they have looked. */
function announce(answer, isWhole) {
  const from = answer.announced ?? 0;
  const rest = answer.text.slice(from);
  const end = isWhole ? rest.length : Math.max(...[". ", "! ", "? ", "\n"].map((mark) => rest.lastIndexOf(mark))) + 1;
  if (end <= 0) return;
  answer.announced = from + end;
  if (unsaid.push(rest.slice(0, end)) === 1) setTimeout(sayNext, 50);
}

function sayNext() {
  $("announce").textContent = unsaid.shift();
  if (unsaid.length) setTimeout(sayNext, 50);
}

/** A message goes back to where it was written; what stands there stays. */
function giveBack(text) {
  const field = $("message");
  field.value = field.value ? `${text}\n\n${field.value}` : text;
}

/** An answer as one of several to a message. */
const asVersion = (answer) => ({ ...answer, kind: "guided", tokens: [...answer.tokens], element: null, drawing: false });

async function generate(turn, list, begun, seed) {
  if (state.running) return;
  const control = new AbortController();
  state.running = control;
  const answers = [turn.guided, turn.base].filter(Boolean);
  state.steered = { a: turn.guided, b: turn.base?.kind === "second" ? turn.base : null };
  turn.guided.id = null;
  turn.guided.begun = turn.guided.tokens.length;
  turn.guided.announced = turn.guided.text.length;
  const known = seed >= 0 ? seed : Math.floor(Math.random() * 2 ** 31);
  const write = async (answer) => {
    await stream(answer, request(answer, list, known, begun), control.signal);
    // The other answer may go on.
    for (const set of ["a", "b"]) if (answer === state.steered[set]) state.steered[set] = null;
  };
  try {
    showTalk(true);
    $("stop").hidden = false;
    $("send").disabled = true;
    say("generating …");
    answers.forEach((answer) => answer.element.classList.add("streaming"));
    await Promise.all(answers.map(write));
  } finally {
    state.running = null;
    $("stop").hidden = true;
    $("send").disabled = false;
  }
  const { error, meta } = turn.guided;
  const speed = meta?.timings?.tokens_per_second;
  const help = error?.includes("exceeds the available context size") ? " Or tick “leave out the oldest turns”." : "";
  say(error ? error + help : control.signal.aborted ? "stopped" : speed ? `${speed.toFixed(1)} tokens/s` : "");
  announce(turn.guided, true);
  // A message that was not answered goes back to where it was written.
  const at = state.turns.indexOf(turn);
  if (error && !turn.guided.text && !turn.base?.text && at > 0 && at === state.turns.length - 1 && !turn.others?.length) {
    giveBack(state.turns.splice(at - 1, 2)[0].user);
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
  const others = [...(turn.others ?? []), turn.guided, ...otherAnswer(turn)];
  state.turns.pop();
  answerLast(others);
}

/** The answer beside the guided one, as a version, if it has a text. */
const otherAnswer = (turn) => (turn.base?.text ? [asVersion(turn.base)] : []);

/** Another one of the answers to a message takes the place of the one that is shown. */
function turnTo(turn, by) {
  const all = versions(turn);
  const next = all[all.indexOf(turn.guided) + by];
  if (!next || state.running) return;
  turn.others = all.filter((answer) => answer !== next);
  turn.guided = next;
  keep();
  showTalk();
}

const versions = (turn) => [...(turn.others ?? []), turn.guided].sort((a, b) => (a.made ?? 0) - (b.made ?? 0));

/** Writes a message anew: the conversation up to it goes on as one of its own, and the old one stays. */
function editMessage(at) {
  if (state.running) return;
  const text = state.turns[at].user;
  const before = state.turns.slice(0, at);
  keep();
  forgetSteps();
  say("");
  state.id = state.changed = null;
  state.name = "";
  state.turns = JSON.parse(JSON.stringify(before.map(keptTurn))).map(repaired);
  $("message").value = text;
  showTalk();
  showConversations();
  $("message").focus();
}

/** Takes a message and the answer to it out of the conversation. */
function deleteMessage(at) {
  if (state.running) return;
  const n = state.turns[at + 1]?.guided ? 2 : 1;
  state.removed = { at, turns: state.turns.splice(at, n), id: state.id };
  keep();
  showTalk();
  say("message deleted");
  $("undo").hidden = false;
}

function undoDelete() {
  const { removed } = state;
  if (!removed || state.running || (removed.id !== state.id && state.id !== null)) return;
  state.id = removed.id;
  state.turns.splice(removed.at, 0, ...removed.turns);
  state.removed = null;
  keep();
  showTalk();
  say("");
}

/** Writes an answer anew by hand; the one of the model stays beside it. */
function editAnswer(turn) {
  const box = turn.guided.element.querySelector(".tokens");
  const field = make("textarea", { value: turn.guided.text, ariaLabel: "The answer", rows: Math.min(16, turn.guided.text.split("\n").length + 3) });
  const done = make("button", { type: "button", textContent: "Keep" });
  const cancel = make("button", { type: "button", textContent: "Cancel" });
  done.addEventListener("click", () => {
    const text = field.value;
    if (state.running || !text.trim()) return;
    turn.others = [...(turn.others ?? []), turn.guided, ...otherAnswer(turn)];
    turn.guided = repaired({ guided: { ...newAnswer("guided", weightsOf(turn.guided)), text, edited: true, made: Date.now() } }).guided;
    delete turn.base;
    keep();
    showTalk();
  });
  cancel.addEventListener("click", () => showTalk());
  box.replaceWith(make("div", { className: "column" }, field, make("div", { className: "buttons" }, done, cancel)));
  field.focus();
}

/** Answers the last message. */
function answerLast(others) {
  const list = messages(state.turns.length);
  const turn = { guided: answerNow("guided", weights("a")), others };
  const { replay } = state;
  state.replay = null;
  if (replay && replay.message === state.turns.at(-1).user && replay.weights === JSON.stringify(weights("a"))) turn.guided.replays = replay.log;
  if (twoSets()) turn.base = answerNow("second", weights("b"));
  if ($("compare").value === "base") turn.base = answerNow("base", Object.fromEntries(state.arms.filter((arm) => arm.system === undefined && !arm.isPreference).map((arm) => [arm.name, 0])));
  state.turns.push(turn);
  generate(turn, list, "", numberIn("seed", -1));
}

/** Goes on with the last answer, from its marked token or its end, under the weights of now. */
function continueAnswer(turn) {
  const answer = turn.guided;
  // What is cut off here, or stands beside it, stays as another version.
  turn.others = [...(turn.others ?? []), ...(answer.cut !== null ? [{ ...asVersion(answer), cut: null }] : []), ...otherAnswer(turn)];
  if (answer.cut !== null) {
    answer.tokens.length = answer.cut + 1;
    answer.text = answer.tokens.map((token) => token.text).join("");
    answer.cut = null;
  }
  const { temperature, max, truncates, personas } = answerNow("guided", {});
  Object.assign(answer, { temperature, max, truncates, personas, error: null, replays: null, continued: true, made: Date.now() });
  answer.changes = answer.changes.filter((change) => change.at < answer.tokens.length);
  markChange(answer, answer.tokens.length, weights("a"));
  delete turn.base;
  const list = messages(state.turns.indexOf(turn));
  generate(turn, list, answer.text, numberIn("seed", -1));
}

/** Shows the conversation; at its end, where that was seen before or `atEnd`. */
function showTalk(atEnd) {
  const follow = atEnd === true || atBottom(), top = $("talk").scrollTop;
  showContext();
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
      const about = turn.user.slice(0, 40);
      const edit = make("button", { type: "button", className: "edit", textContent: "Edit", ariaLabel: `Edit the message: ${about}` });
      edit.addEventListener("click", () => editMessage(i));
      const remove = make("button", { type: "button", className: "delete", textContent: "Delete", ariaLabel: `Delete the message: ${about}` });
      remove.addEventListener("click", () => deleteMessage(i));
      return make("div", { className: "user" }, make("span", { textContent: turn.user }), make("div", { className: "tools" }, edit, remove));
    }
    const box = make("div", { className: turn.base ? "turn pair" : "turn" });
    const inOrder = turn.base?.kind === "second" ? [turn.guided, turn.base] : [turn.base, turn.guided];
    for (const answer of inOrder.filter(Boolean)) box.append(showAnswer(answer, turn, i));
    return box;
  }));
  for (const turn of state.turns) [turn.guided, turn.base].filter(Boolean).forEach(drawText);
  if (follow) scrollDown();
  else $("talk").scrollTop = top;
}

const titles = (turn) => (turn.base?.kind === "second" ? { guided: "A", second: "B" } : { guided: "guided", base: "base alone" });

function showAnswer(answer, turn, i) {
  const title = answer.edited ? "edited" : (titles(turn)[answer.kind] ?? "guided");
  const tokens = make("div", { className: "tokens", tabIndex: 0, role: "group", ariaLabel: `Answer (${title}); arrow keys walk its tokens` });
  const used = answer.kind === "base" || answer.edited ? "" : make("span", { textContent: named(weightsOf(answer)) });
  const element = make("article", { className: `answer ${answer.kind}`, ariaLabel: `Answer, ${title}` }, make("h3", {}, make("b", { textContent: title }), used), tokens);
  answer.element = element;
  walk(tokens, answer);
  if (answer.finish === "length" && !state.running) element.append(make("p", { className: "cut-off", textContent: "Cut off: at “Max tokens”, or because the context is full." }));
  if (answer.meta?.dropped_messages) element.append(make("p", { className: "cut-off", textContent: `The ${answer.meta.dropped_messages} oldest messages were left out: they did not fit.` }));
  if (answer.error) element.append(make("p", { className: "error", textContent: answer.error }));
  if (!state.running) element.append(rewardView(answer), footer(answer, turn, i));
  return element;
}

function footer(answer, turn, i) {
  const foot = make("footer");
  const times = answer.meta?.timings;
  const flips = answer.tokens.filter((token) => token.flipped).length;
  const isBare = answer.tokens.every((token) => token.bare);
  const facts = answer.edited ? ["written by hand"] : isBare ? [] : [`${answer.tokens.length} tokens`];
  if (times?.tokens_per_second) facts.push(`${times.tokens_per_second.toFixed(1)} tokens/s`);
  if (times?.acceptance !== undefined) facts.push(`acceptance ${(times.acceptance * 100).toFixed(0)} %`);
  if (answer.kind !== "base" && !isBare) facts.push(`${flips} changed by guidance`);
  if (answer.meta?.seed !== undefined) facts.push(`seed ${answer.meta.seed}`);
  foot.append(make("span", { textContent: facts.join(" · ") }));
  const button = (className, textContent, act, ariaLabel) => {
    const made = make("button", { type: "button", className, textContent });
    if (ariaLabel) made.ariaLabel = ariaLabel;
    made.addEventListener("click", act);
    foot.append(made);
    return made;
  };
  if (turn.base && turn.base.text && turn.guided.text) button("prefer", "Keep this one", () => preferAnswer(turn, answer), `Keep this one, ${titles(turn)[answer.kind]}, and the pair`);
  button("copy-answer", "Copy", () => copyText(answer.text, "answer copied"), "Copy the answer");
  if (answer.kind !== "guided") return foot;
  button("edit-answer", "Edit", () => editAnswer(turn), "Edit the answer");
  if (!answer.continued && !answer.edited && answer.meta?.seed !== undefined) {
    button("link", "Link", () => {
      const link = linkOf(answer, i);
      if (link.length > MAX_LINK) say("this conversation is too long for a link; export it");
      else copyText(link, "link copied");
    }, "Link that writes this answer again");
  }
  if (i < state.turns.length - 1) return foot;
  button("continue", continueText(answer), () => continueAnswer(turn));
  button("retry", "Answer again", () => answerAgain(turn));
  if (turn.others?.length) {
    const all = versions(turn);
    const at = all.indexOf(turn.guided);
    const arrow = (by, text, label) => {
      const made = button("version", text, () => turnTo(turn, by), label);
      made.disabled = !all[at + by];
      return made;
    };
    foot.append(make("span", { className: "versions" }, arrow(-1, "‹", "Earlier answer"), ` answer ${at + 1} of ${all.length} `, arrow(1, "›", "Later answer")));
  }
  return foot;
}

const continueText = (answer) => (answer.cut === null ? "Continue from here" : "Continue from the marked token");
const lastAnswer = () => state.turns.at(-1)?.guided;
const atBottom = () => $("talk").scrollHeight - $("talk").scrollTop - $("talk").clientHeight < 60;
const scrollDown = () => { $("talk").scrollTop = $("talk").scrollHeight; };
