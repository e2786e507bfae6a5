// What the ARMs say of an answer: as a whole, sentence by sentence, and where they disagree with the base.
"use strict";

const DISAGREEMENTS = 3;

/** The tokens of an answer of which something is known, by sentence. */
function sentences(answer) {
  const text = answer.tokens.map((token) => token.text).join("");
  const cut = (text) => {
    if (Intl.Segmenter) return [...new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(text)].map((one) => one.segment);
    return text.match(/[^.!?\n]+[.!?\n]*\s*|[.!?\n]+\s*/g) ?? [];
  };
  const parts = [];
  let end = 0;
  for (const part of cut(text)) {
    end += part.length;
    // What is only a line break belongs to the sentence before it, and a number of a list to the one after it.
    const before = parts.at(-1);
    if (!part.trim() && before) before.end = end;
    else if (before && !/\p{L}/u.test(before.text)) Object.assign(before, { text: `${before.text} ${part.trim()}`, end });
    else parts.push({ text: part.trim(), end, tokens: [] });
  }
  let at = 0, start = 0;
  answer.tokens.forEach((token, i) => {
    while (at < parts.length - 1 && parts[at].end <= start) at++;
    if (parts[at] && !token.bare) parts[at].tokens.push({ ...token, at: i });
    start += token.text.length;
  });
  return parts.filter((part) => part.tokens.length);
}

/** The mean per token of what an ARM adds to the base, in nats. */
function meanReward(tokens, arm) {
  const known = tokens.filter((token) => token.arms[arm] !== undefined);
  return known.length ? known.reduce((sum, token) => sum + token.arms[arm] - token.base, 0) / known.length : null;
}

/** The tokens where an ARM differs most from the base. */
function disagreements(tokens, arm) {
  const known = tokens.filter((token) => token.arms[arm] !== undefined && token.text.trim());
  const by = (token) => token.arms[arm] - token.base;
  return known.sort((a, b) => Math.abs(by(b)) - Math.abs(by(a))).slice(0, DISAGREEMENTS).map((token) => ({ ...token, by: by(token) }));
}

const signed = (x) => (x === null ? "" : `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}`);

/** A table of them that opens on demand; nothing where nothing is known. */
function rewardView(answer) {
  const parts = sentences(answer);
  const tokens = parts.flatMap((part) => part.tokens);
  const arms = [...new Set(tokens.flatMap((token) => Object.keys(token.arms)))];
  if (!tokens.length || !arms.length) return "";
  const view = make("details", { className: "rewards", open: Boolean(answer.rewardsOpen) }, make("summary", { textContent: "Rewards" }));
  const fill = () => {
    if (view.childElementCount > 1) return;
    const head = make("tr", {}, ...["", ...arms, "KL", "changed"].map((textContent) => make("th", { textContent, scope: "col" })));
    const row = (name, tokens) => {
      const mean = (of) => tokens.reduce((sum, token) => sum + of(token), 0) / tokens.length;
      const cells = arms.map((arm) => {
        const value = meanReward(tokens, arm);
        const cell = make("td", { textContent: signed(value) });
        const x = Math.max(-1, Math.min(1, (value ?? 0) / 3));
        cell.style.setProperty("background-color", `rgba(var(--${x < 0 ? "bad" : "good"}), ${(Math.abs(x) * 0.5).toFixed(3)})`);
        return cell;
      });
      const last = [mean((token) => token.kl).toFixed(2), tokens.filter((token) => token.flipped).length];
      return make("tr", {}, make("th", { textContent: name, scope: "row", title: name }), ...cells, ...last.map((textContent) => make("td", { textContent })));
    };
    const rows = [row("The whole answer", tokens), ...(parts.length > 1 ? parts.map((part) => row(part.text, part.tokens)) : [])];
    const caption = make("caption", { textContent: "Nats per token that each ARM adds to the base, the distance from the base, and tokens that guidance changed." });
    const lists = arms.map((arm) => {
      const button = (token) => {
        const go = make("button", { type: "button", textContent: `${token.text.trim()} ${signed(token.by)}`, title: "Go to this token" });
        go.addEventListener("click", () => {
          const box = answer.element.querySelector(".tokens");
          box.focus({ preventScroll: true });
          box.goTo(token.at);
        });
        return go;
      };
      return make("p", {}, `${arm} disagrees most with the base at `, ...disagreements(tokens, arm).map(button));
    });
    view.append(make("div", { className: "frame", tabIndex: 0, role: "region", ariaLabel: "Rewards by sentence" }, make("table", {}, caption, make("thead", {}, head), make("tbody", {}, ...rows))), ...lists);
  };
  view.addEventListener("toggle", () => { answer.rewardsOpen = view.open; if (view.open) fill(); });
  if (view.open) fill();
  return view;
}
