// The weights: their sliders, personas and profiles, and the answers that change with them while they are written.
"use strict";

/** An ARM as the server describes it, and each of its objectives, with a slider of its own. */
const withObjectives = ({ preferences = [], ...arm }) => [
  { ...arm, second: arm.weight },
  ...preferences.map(({ objective, value, range }) => ({ name: `${arm.name}.${objective}`, weight: value, second: value, range, isPreference: true })),
];

const weightIn = (set, arm) => (set === "b" ? arm.second : arm.weight);

function setWeight(set, name, value) {
  const arm = state.arms.find((arm) => arm.name === name);
  if (!arm || !Number.isFinite(value)) return;
  const [least, most] = arm.isPreference ? arm.range : [-100, 100];
  arm[set === "b" ? "second" : "weight"] = Math.max(least, Math.min(most, value));
}

const twoSets = () => $("compare").value === "second";

/** Shows the sliders of a set, and what else hangs on which ARMs there are. */
function showSliders() {
  if (!twoSets()) state.set = "a";
  $("sets").hidden = !twoSets();
  for (const set of ["a", "b"]) $(`set-${set}`).checked = state.set === set;
  const box = $("sliders");
  if (!state.arms.length) box.replaceChildren(make("p", { className: "quiet", textContent: "No ARM is loaded: answers come from the base alone." }));
  else box.replaceChildren(...state.arms.map(slider));
  $("duel-open").hidden = !state.arms.length;
  $("persona-form").hidden = state.arms.filter((arm) => arm.system !== undefined).length >= state.maxPersonas;
  const colours = ["", ...state.arms.filter((arm) => !arm.isPreference).map((arm) => arm.name)];
  const chosen = $("colour").options.length && colours.includes($("colour").value) ? $("colour").value : (state.arms[0]?.name ?? "");
  $("colour").replaceChildren(...colours.map((value) => make("option", { value, textContent: value || "off" })));
  $("colour").value = chosen;
  showLegend();
  showProfiles();
}

function slider(arm, i) {
  const weight = weightIn(state.set, arm);
  const reach = Math.max(2, Math.ceil(Math.abs(weight) * 1.5));
  // Where `genarm calibrate` has found out how far the ARM may go, the slider ends there.
  const [least, most] = arm.range ?? [-reach, reach];
  // Both ends on the step, which counts from the lower one: so 0 can be reached.
  const end = (value, round) => round(Math.round(value * 1000) / 50) / 20;
  const min = end(Math.min(least, weight), Math.floor), max = end(Math.max(most, weight), Math.ceil);
  const range = make("input", { id: `arm-${i}`, type: "range", min, max, step: 0.05, value: weight, dataset: { arm: arm.name } });
  const number = make("input", { type: "number", min: -100, max: 100, step: 0.05, value: round(weight), ariaLabel: `${arm.name}, exact weight` });
  const set = (value, from) => {
    if (!Number.isFinite(value)) return;
    setWeight(state.set, arm.name, value);
    if (from !== range) range.value = value;
    if (from !== number) number.value = round(weightIn(state.set, arm));
    showProfiles();
    steer();
  };
  range.addEventListener("input", () => set(range.valueAsNumber, range));
  number.addEventListener("input", () => set(number.valueAsNumber, number));
  const box = make("div", { className: "slider" }, make("label", { htmlFor: range.id, textContent: arm.name, title: arm.system ?? "" }), number, range);
  if (arm.system !== undefined) {
    const remove = make("button", { type: "button", className: "remove", textContent: "Remove", ariaLabel: `Remove the persona ${arm.name}` });
    remove.addEventListener("click", () => { state.arms = state.arms.filter((other) => other !== arm); showSliders(); });
    box.append(remove);
  }
  return box;
}

/** Adds a persona: the base under a system prompt, as an ARM of the next answers. False where the server will refuse it. */
function addPersona(name, system, weight = 1) {
  if (state.arms.some((arm) => arm.name === name)) return false;
  state.arms.push({ name, system, weight, second: weight });
  return personas().length <= state.maxPersonas;
}

const personas = () => state.arms.filter((arm) => arm.system !== undefined).map(({ name, system }) => ({ name, system }));

function showProfiles() {
  const matches = (profile) => state.arms.every((arm) => Math.abs((profile[arm.name] ?? 0) - weightIn(state.set, arm)) < 1e-6);
  const focused = document.activeElement?.dataset?.profile;
  $("profiles").replaceChildren(...Object.entries(state.profiles).map(([name, profile]) => {
    const button = make("button", { type: "button", textContent: name, dataset: { profile: name } });
    button.setAttribute("aria-pressed", matches(profile));
    button.addEventListener("click", () => {
      state.arms.forEach((arm) => setWeight(state.set, arm.name, profile[arm.name] ?? weightIn(state.set, arm)));
      showSliders();
      steer();
    });
    return button;
  }));
  if (focused) [...$("profiles").children].find((button) => button.dataset.profile === focused)?.focus();
}

const weights = (set = "a") => Object.fromEntries(state.arms.map((arm) => [arm.name, weightIn(set, arm)]));
const round = (x) => Math.round(x * 1000) / 1000;
const named = (w) => Object.entries(w).map(([name, x]) => `${name} ${round(x)}`).join(" · ") || "no ARMs";

const STEER_AFTER = 80; // milliseconds without another movement
const steerTimers = {};
const steering = {};

/** Sends the sliders' weights to the answer that is being written under them, soon. */
function steer(set = state.set) {
  clearTimeout(steerTimers[set]);
  if (state.steered[set]) steerTimers[set] = setTimeout(() => change(state.steered[set], set), STEER_AFTER);
}

async function change(answer, set) {
  // A text of a link is steered by its log.
  if (!answer || answer !== state.steered[set] || answer.replays) return;
  // Changes go out one after the other.
  if (!answer.id || steering[set]) return steer(set);
  const used = Object.fromEntries(Object.entries(weights(set)).filter(([name]) => name in answer.weights));
  steering[set] = true;
  try {
    const response = await api(`/v1/generations/${answer.id}`, { method: "PATCH", body: JSON.stringify({ preferences: used }) });
    const changed = await response.json();
    for (const choice of changed.choices) markChange(answer, answer.begun + choice.token, changed.weights);
  } catch (error) {
    // The answer may have ended meanwhile; otherwise the next movement sends all weights again.
    if (answer === state.steered[set]) say(error.message);
  } finally {
    steering[set] = false;
  }
}

/** Remembers that the weights change before a token, and marks it where it is there already. */
function markChange(answer, at, used) {
  const before = answer.changes.filter((change) => change.at < at).at(-1) ?? answer;
  if (named(before.weights) === named(used)) return;
  answer.changes = [...answer.changes.filter((change) => change.at !== at), { at, weights: used }].sort((a, b) => a.at - b.at);
  drawSoon(answer);
}
