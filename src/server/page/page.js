// Chat with a guided model, steer it with sliders, and see what each ARM says about every token.
"use strict";

const $ = (id) => document.getElementById(id);
const state = {
  arms: [],          // {name, weight, second}, and of a persona its system prompt: the two sets of weights, A and B;
                     // a preference for an ARM's objective is one too, named "ARM.OBJECTIVE", with isPreference
  set: "a",          // the set that the sliders show
  profiles: {},      // name → {ARM: weight}
  maxPersonas: 0,    // that a request may bring
  turns: [],         // {user} or {guided, base?, others?}: answers, see newAnswer
  running: null,     // AbortController of what is being generated
  steered: {},       // set → the answer that is being generated under it: its sliders change the weights
  replay: null,      // {log, message, weights} of a link
  removed: null,     // {at, turns, id}: the message that was deleted last
  key: sessionStorage.getItem("genarm-key") || "",
  id: null,          // of the conversation that is open
  changed: null,     // when it was kept last
  name: "",          // where it was given one
  nCtx: 0,           // tokens that a conversation may have
};

/** Makes an element: make("p", {className: "quiet"}, "text", child). */
function make(tag, props = {}, ...children) {
  const { dataset, ariaLabel, ...rest } = props;
  const element = Object.assign(document.createElement(tag), rest);
  // Some browsers do not know the property.
  if (ariaLabel) element.setAttribute("aria-label", ariaLabel);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

/** A line about what has happened. */
function say(text) {
  $("status").textContent = text;
  $("undo").hidden = true;
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

let asking = null;

/** Asks for the key; requests that need it at the same time get the same one. */
function askForKey() {
  const dialog = $("key");
  if (!dialog.open) dialog.showModal();
  asking ??= new Promise((resolve) => {
    dialog.addEventListener("close", () => { asking = null; resolve($("key-input").value.trim()); $("key-input").value = ""; }, { once: true });
  });
  return asking;
}

async function load() {
  const preferences = await (await api("/v1/preferences")).json();
  state.arms = preferences.arms.flatMap(withObjectives);
  state.profiles = preferences.profiles;
  state.chat = preferences.chat;
  state.maxPersonas = preferences.max_personas ?? 0;
  $("model").textContent = preferences.model;
  $("temperature").value = Math.round(preferences.sampling.temperature * 1000) / 1000;
  $("system").value = preferences.system ?? "";
  showSliders();
  state.nCtx = (await (await api("/props")).json()).default_generation_settings.n_ctx;
  const carried = location.hash.length > 1 ? linked(location.hash) : null;
  const open = storedConversation(storedOpen());
  if (location.hash.length > 1) history.replaceState(null, "", location.pathname);
  try {
    if (carried) openLink(carried);
    else if (open) openConversation(open);
    else showTalk();
  } catch (error) {
    // What another version of the page has kept must not keep this one from starting.
    newConversation();
    say(`the conversation cannot be shown: ${error.message}`);
  }
  showConversations();
  showPairs();
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
  const used = Object.fromEntries(Object.entries(weights("a")).filter(([name]) => state.arms.some((arm) => arm.name === name && arm.system === undefined)));
  return JSON.stringify({ ...system, weights: used, messages: list }, null, 2) + "\n";
}

/** The weights that the sliders show, for the configuration; its personas with them. */
function profile() {
  const line = state.arms.map((arm) => `    ${JSON.stringify(arm.name)}: ${round(weightIn(state.set, arm))}`).join("\n");
  const own = personas().map(({ name, system }) => `  ${JSON.stringify(name)}: {system: ${JSON.stringify(system)}, weight: 0}\n`).join("");
  return `${own ? `arms:\n${own}` : ""}profiles:\n  by-hand:\n${line}\n`;
}

// ---------------------------------------------------------------- events

/** Whether a key belongs to a character that is being put together; Safari says so by its code alone. */
const isComposing = (event) => event.isComposing || event.keyCode === 229;

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (!text || state.running) return;
  $("message").value = "";
  send(text);
});
$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) {
    event.preventDefault();
    $("composer").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (!$("tip").hidden) $("tip").hidden = true;
  else state.running?.abort();
});
$("stop").addEventListener("click", () => state.running?.abort());
$("undo").addEventListener("click", undoDelete);
$("colour").addEventListener("change", showLegend);
$("relative").addEventListener("change", showLegend);
$("markdown").addEventListener("change", () => state.turns.flatMap((turn) => [turn.guided, turn.base]).filter(Boolean).forEach(drawText));
$("compare").addEventListener("change", showSliders);
for (const set of ["a", "b"]) $(`set-${set}`).addEventListener("change", () => { state.set = set; showSliders(); });
$("persona-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("persona-name").value.trim(), system = $("persona-system").value.trim();
  if (!name || !system) return say("a persona needs a name and a system prompt");
  if (state.arms.some((arm) => arm.name === name)) return say(`there is an ARM or a persona “${name}” already`);
  addPersona(name, system);
  event.target.reset();
  $("persona-details").open = false;
  showSliders();
});
$("export-json").addEventListener("click", () => save("conversation.json", "application/json", conversation()));
$("export-yaml").addEventListener("click", () => save("profile.yaml", "application/yaml", profile()));
$("export-markdown").addEventListener("click", () => save("conversation.md", "text/markdown", asMarkdown({ name: state.name || nameOf(state.turns), system: $("system").value, turns: state.turns })));
$("export-pairs").addEventListener("click", () => save("pairs.jsonl", "application/jsonl", pairsText()));
$("forget-pairs").addEventListener("click", () => { try { localStorage.removeItem(PAIRS); } catch { /* there are none */ } showPairs(); });
$("import").addEventListener("change", async () => {
  const file = $("import").files[0];
  if (!file) return;
  const one = importedConversation(await file.text());
  $("import").value = "";
  if (!one) return say(`${file.name} is no conversation`);
  openConversation({ ...one, id: newId(), given: true });
  keep();
});
$("search").addEventListener("input", showConversations);
$("clear").addEventListener("click", newConversation);
$("toggle").addEventListener("click", () => {
  const open = $("panel").classList.toggle("open");
  $("toggle").setAttribute("aria-expanded", open);
});
addEventListener("hashchange", () => {
  const carried = linked(location.hash);
  history.replaceState(null, "", location.pathname);
  if (carried) openLink(carried);
});
// What has been written so far outlives a page that is closed or loaded anew.
addEventListener("pagehide", () => { if (state.running) keep(); });
load().catch((error) => say(error.message));
