// Duels: two answers under different weights, and which is better. The server computes what the choices say of the weights.
"use strict";

const DUEL = "genarm-duel";
const duel = {
  prompts: "",      // one per line
  choices: [],      // as `genarm train` reads them, with the rewards of both answers
  estimate: null,   // what the server made of the choices
  shown: null,      // the two answers to choose between
  prompt: null,     // {text, prompt}: what they answer
  again: 0,         // how often other answers were asked for
  abort: null,      // AbortController of the request that runs
};

/** What is kept from an earlier visit. */
function restoreDuel() {
  try {
    const { prompts, choices } = JSON.parse(localStorage.getItem(DUEL) ?? "{}");
    if (typeof prompts === "string") duel.prompts = prompts;
    if (Array.isArray(choices)) duel.choices = choices;
  } catch { /* there is nothing to go on with */ }
}

function keepDuel() {
  try {
    localStorage.setItem(DUEL, JSON.stringify({ prompts: duel.prompts, choices: duel.choices }));
  } catch {
    duelSays("the browser has no room for more choices: save them, then forget them");
  }
}

const duelSays = (text) => { $("duel-status").textContent = text; };

/** A prompt as messages; of a base without a template as a text. */
function duelPrompt(text) {
  if (!state.chat) return text;
  const system = $("system").value.trim() ? [{ role: "system", content: $("system").value }] : [];
  return [...system, { role: "user", content: text }];
}

const duelPrompts = () => duel.prompts.split("\n").map((line) => line.trim()).filter(Boolean);

/** The choices as the server reads them. */
const duelChoices = () => duel.choices.map(({ chosen_rewards, rejected_rewards, tie }) => ({ chosen_rewards, rejected_rewards, tie: Boolean(tie) }));

/** Asks the server, for two more answers to a prompt or for the estimate alone. Null where something else was asked meanwhile. */
async function askDuel(prompt) {
  duel.abort?.abort();
  const control = duel.abort = new AbortController();
  const body = { choices: duelChoices(), preferences: weights(state.set), personas: personas() };
  if (prompt !== null) {
    const seed = numberIn("seed", -1);
    body[typeof prompt === "string" ? "prompt" : "messages"] = prompt;
    Object.assign(body, { seed: seed >= 0 ? seed + duel.choices.length + 1000 * duel.again : -1, temperature: numberIn("temperature", 1), max_tokens: numberIn("max", 200) });
  }
  if (!body.personas.length) delete body.personas;
  try {
    const found = await (await api("/v1/duel", { method: "POST", body: JSON.stringify(body), signal: control.signal })).json();
    return control.signal.aborted ? null : found;
  } catch (error) {
    if (!control.signal.aborted) duelSays(error.message);
    return null;
  } finally {
    if (duel.abort === control) duel.abort = null;
  }
}

/** Writes and shows the next two answers. */
async function nextDuel() {
  const prompts = duelPrompts();
  if (!prompts.length) return duelSays("write at least one prompt");
  const text = prompts[duel.choices.length % prompts.length];
  const prompt = duelPrompt(text);
  duel.shown = null;
  showDuel();
  duelSays("writing answers …");
  const found = await askDuel(prompt);
  if (!found) return;
  duel.estimate = found.estimate;
  if (found.answers.length < 2) return showDuel(), duelSays("under all weights the answers are alike: change the prompt, or raise the temperature");
  Object.assign(duel, { shown: found.answers, prompt: { text, prompt } });
  duelSays("");
  showDuel();
  // The button that was pressed may have been disabled meanwhile, and lost the focus.
  if (document.activeElement === document.body) $("duel-answers").focus();
}

/** Takes down which of the two is better, or that neither is, as a pair that `genarm train` reads. */
function chooseDuel(at) {
  if (!duel.shown) return;
  const tie = at === null;
  const [chosen, rejected] = tie || at === 0 ? duel.shown : [...duel.shown].reverse();
  const { prompt } = duel.prompt;
  const said = (answer) => (typeof prompt === "string" ? answer.text : [{ role: "assistant", content: answer.text }]);
  // A pair of equal texts teaches an ARM nothing.
  const less = tie ? chosen : rejected;
  duel.choices.push({
    prompt, chosen: said(chosen), rejected: said(less), finish_chosen: chosen.finish_reason, finish_rejected: less.finish_reason,
    chosen_weights: chosen.weights, rejected_weights: rejected.weights, chosen_rewards: chosen.rewards, rejected_rewards: rejected.rewards,
    ...(tie ? { tie, alike: said(rejected) } : {}), made: new Date().toISOString(),
  });
  duel.again = 0;
  keepDuel();
  nextDuel();
}

/** Takes the last choice back, and asks again. */
function undoDuel() {
  if (!duel.choices.pop()) return;
  duel.again = 0;
  keepDuel();
  nextDuel();
}

function forgetDuel() {
  duel.abort?.abort();
  Object.assign(duel, { choices: [], shown: null, estimate: null, again: 0 });
  keepDuel();
  duelSays("");
  showDuel();
}

/** Moves the sliders to what was learned. */
function useDuel() {
  for (const [name, weight] of Object.entries(duel.estimate.weights)) setWeight(state.set, name, weight);
  showSliders();
  steer();
  duelSays("the sliders show these weights");
}

function showDuel() {
  const n = duel.choices.length, prompts = duelPrompts();
  $("duel-title").textContent = `Duel ${n + 1}`;
  $("duel-prompt").textContent = duel.shown ? duel.prompt.text : "";
  for (const [i, name] of [[0, "a"], [1, "b"]]) {
    $(`duel-${name}`).textContent = duel.shown ? duel.shown[i].text.trim() : "";
    $(`duel-better-${name}`).disabled = !duel.shown;
  }
  $("duel-answers").hidden = !duel.shown;
  $("duel-alike").disabled = !duel.shown;
  $("duel-next").textContent = n || duel.shown ? "Other answers" : "Begin";
  $("duel-next").disabled = !prompts.length;
  $("duel-undo").disabled = $("duel-save").disabled = $("duel-forget").disabled = n === 0;
  $("duel-use").disabled = !n || !duel.estimate;
  $("duel-save").textContent = `${n} ${n === 1 ? "choice" : "choices"} (JSONL)`;
  const known = n && duel.estimate ? duel.estimate.objectives : [];
  const error = (of) => (of.weight_error === null ? "?" : of.weight_error.toFixed(2));
  $("duel-estimate").replaceChildren(...known.map((of) => make("li", {}, make("b", { textContent: of.name }), ` ${of.weight.toFixed(2)} ± ${error(of)}`)));
}

async function openDuel() {
  restoreDuel();
  $("duel-prompts").value = duel.prompts ||= state.turns.filter((turn) => turn.user !== undefined).map((turn) => turn.user.replace(/\s+/g, " ")).join("\n");
  duel.shown = null;
  duelSays("");
  showDuel();
  $("duel").showModal();
  if (!duel.choices.length) return;
  const found = await askDuel(null);
  if (found) duel.estimate = found.estimate;
  showDuel();
}

$("duel-open").addEventListener("click", openDuel);
$("duel-close").addEventListener("click", () => $("duel").close());
$("duel").addEventListener("close", () => duel.abort?.abort());
$("duel-prompts").addEventListener("input", () => { duel.prompts = $("duel-prompts").value; keepDuel(); showDuel(); });
$("duel-next").addEventListener("click", () => { duel.again = duel.shown ? duel.again + 1 : 0; nextDuel(); });
$("duel-better-a").addEventListener("click", () => chooseDuel(0));
$("duel-better-b").addEventListener("click", () => chooseDuel(1));
$("duel-alike").addEventListener("click", () => chooseDuel(null));
$("duel-undo").addEventListener("click", undoDuel);
$("duel-forget").addEventListener("click", forgetDuel);
$("duel-use").addEventListener("click", useDuel);
$("duel-save").addEventListener("click", () => save("choices.jsonl", "application/jsonl", duel.choices.map((choice) => JSON.stringify(choice) + "\n").join("")));
document.addEventListener("keydown", (event) => {
  if (!$("duel").open || event.target.matches("textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { 1: () => chooseDuel(0), 2: () => chooseDuel(1), "=": () => chooseDuel(null), u: undoDuel }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
