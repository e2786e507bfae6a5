// The text of an answer, as Markdown or as it was written, with each token's numbers behind it. What a model writes enters the page as
// text nodes or through the sanitizer, never as markup of its own.
"use strict";

marked.use({
  gfm: true,
  breaks: true,
  renderer: {
    // HTML of a model is shown, not followed; an image would ask another host, and is its words.
    html: ({ text }) => escaped(text),
    image: ({ text, href }) => escaped(text || href),
  },
});
DOMPurify.addHook("afterSanitizeAttributes", (element) => {
  if (element.tagName === "A") { element.setAttribute("target", "_blank"); element.setAttribute("rel", "noopener noreferrer"); }
});
const CLEAN = {
  RETURN_DOM_FRAGMENT: true,
  ALLOWED_TAGS: ["a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul", "input"],
  ALLOWED_ATTR: ["href", "title", "start", "align", "type", "checked", "disabled"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ADD_URI_SAFE_ATTR: ["start", "align", "type"],
};

function escaped(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** The text of an answer as elements; null where it nests deeper than it can be read. */
function markdown(text) {
  let part;
  try { part = DOMPurify.sanitize(marked.parse(text), CLEAN); } catch { return null; }
  // A heading of an answer is no heading of the page.
  for (const heading of part.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    heading.replaceWith(make("p", { className: `heading ${heading.tagName.toLowerCase()}` }, ...heading.childNodes));
  }
  for (const box of part.querySelectorAll("input")) box.replaceWith(box.checked ? "☑ " : "☐ ");
  for (const table of part.querySelectorAll("table")) {
    const frame = make("div", { className: "frame" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return part;
}

/** Adds a button to each piece of code. */
function addCopyButtons(box) {
  for (const pre of box.querySelectorAll("pre")) {
    const copy = make("button", { type: "button", className: "copy", textContent: "Copy" });
    const code = pre.textContent;
    copy.addEventListener("click", () => copyText(code, "code copied"));
    const frame = make("div", { className: "code" });
    pre.replaceWith(frame);
    frame.append(pre, copy);
  }
}

async function copyText(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    say(done);
  } catch {
    // A page that did not come over HTTPS or from this machine may not write there.
    say("the browser does not let this page copy; select the text");
  }
}

/** Where in the source the text of a node goes on: what stands between is markup. -1 where it does not. Space says nothing about that:
 * the reader of Markdown puts some between blocks. */
function place(source, from, text, at) {
  if (/\s/.test(text[at])) return -1;
  const line = text.slice(at, at + 16).split("\n")[0];
  for (const [length, reach] of [[16, 400], [5, 400], [1, 40]]) {
    const found = source.indexOf(line.slice(0, length), from);
    // Within a text markup is short.
    if (found >= 0 && found - from <= (at > 0 ? 40 : reach)) return found;
  }
  return -1;
}

/** Wraps the texts below an element in spans, one per token or part of one. */
function wrapTokens(answer, box) {
  const source = answer.tokens.map((token) => token.text).join("");
  const ends = [];
  for (const token of answer.tokens) ends.push((ends.at(-1) ?? 0) + token.text.length);
  const nodes = [];
  for (let walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT), node; (node = walker.nextNode());) nodes.push(node);
  let cursor = 0, token = 0;
  for (const node of nodes) {
    const text = node.data;
    // Between blocks there is nothing to see.
    if (!text.trim() && !node.parentElement.closest("p, li, pre, td, th")) continue;
    const parts = [];
    for (let i = 0; i < text.length; i++) {
      const at = i > 0 && source[cursor] === text[i] ? cursor : place(source, cursor, text, i);
      if (at >= 0) {
        cursor = at + 1;
        while (token < ends.length - 1 && ends[token] <= at) token++;
      }
      if (parts.at(-1)?.token === token) parts.at(-1).text += text[i];
      else parts.push({ token, text: text[i] });
    }
    node.replaceWith(...parts.map((part) => tokenSpan(answer, part.token, part.text)));
  }
}

function tokenSpan(answer, at, text) {
  const span = make("span", { className: "token", textContent: text });
  span.token = answer.tokens[at];
  span.at = at;
  if (span.token?.flipped && answer.kind !== "base") span.classList.add("flipped");
  colour(span);
  return span;
}

/** Writes the text of an answer into its element. */
function drawText(answer) {
  const box = answer.element?.querySelector(".tokens");
  if (!box) return;
  const follow = atBottom();
  const began = performance.now();
  const drawn = $("markdown").checked ? markdown(answer.text) : null;
  box.classList.toggle("written", !drawn);
  if (drawn) {
    box.replaceChildren(drawn);
    wrapTokens(answer, box);
    addCopyButtons(box);
  } else {
    box.replaceChildren(...answer.tokens.map((token, at) => tokenSpan(answer, at, token.text)));
  }
  const spans = [...box.querySelectorAll(".token")];
  for (const change of answer.changes) {
    const span = spans.find((span) => span.at >= change.at);
    if (span) { span.classList.add("changed"); span.changed = change.weights; }
  }
  if (answer.cut !== null) {
    for (const span of spans) {
      if (span.at === answer.cut) span.classList.add("cut", "current");
      if (span.at > answer.cut) span.classList.add("after");
    }
  }
  // The whole text is drawn each time: a long one less often.
  answer.drawAfter = performance.now() + 4 * (performance.now() - began);
  if (follow) scrollDown();
}

/** Draws an answer that grows, soon. */
function drawSoon(answer) {
  if (answer.drawing) return;
  answer.drawing = true;
  const draw = () => {
    if (performance.now() < (answer.drawAfter ?? 0)) return void requestAnimationFrame(draw);
    answer.drawing = false;
    drawText(answer);
  };
  requestAnimationFrame(draw);
}

/** What the colour of a token stands for: an ARM's log-probability, or how it differs from the base's. */
function reward(token) {
  const arm = token?.arms?.[$("colour").value];
  if (arm === undefined) return null;
  return $("relative").checked ? arm - token.base : arm;
}

/** Blue for what the ARM likes, orange for what it does not; the middle is 0 (relative) or −3 nats. */
function colour(span) {
  const value = span.token?.bare ? null : reward(span.token);
  if (value === null) { span.style.removeProperty("background-color"); return; }
  const x = Math.max(-1, Math.min(1, $("relative").checked ? value / 3 : (value + 3) / 3));
  span.style.setProperty("background-color", `rgba(var(--${x < 0 ? "bad" : "good"}), ${(Math.abs(x) * 0.5).toFixed(3)})`);
}

function showLegend() {
  const relative = $("relative").checked, off = !$("colour").value;
  $("legend-low").textContent = relative ? "−3 nats" : "−6 nats";
  $("legend-high").textContent = relative ? "+3" : "0";
  $("legend").hidden = off;
  $("relative").disabled = off;
  document.querySelectorAll(".tokens .token").forEach(colour);
}

/** Shows the numbers of a token beside it; returns them as a sentence. */
function tip(span) {
  const token = span.token;
  if (!token || token.bare) return "";
  const numbers = [["guided", token.guided], ["base", token.base], ...Object.entries(token.arms), ["KL to the base", token.kl]];
  const row = ([name, value]) => make("tr", {}, make("td", { textContent: name }), make("td", { textContent: value.toFixed(3) }));
  const notes = token.flipped ? ["guidance changed the likeliest token"] : [];
  if (span.changed) notes.push(`from here on: ${named(span.changed)}`);
  const name = JSON.stringify(token.token);
  $("tip").replaceChildren(make("b", { textContent: name }), make("table", {}, ...numbers.map(row)), ...notes.map((textContent) => make("div", { textContent })));
  $("tip").hidden = false;
  const box = span.getBoundingClientRect(), size = $("tip").getBoundingClientRect();
  const top = box.bottom + size.height + 12 > innerHeight ? box.top - size.height - 8 : box.bottom + 8;
  $("tip").style.setProperty("left", `${Math.max(6, Math.min(box.left, innerWidth - size.width - 6))}px`);
  $("tip").style.setProperty("top", `${Math.max(6, top)}px`);
  return [name, ...numbers.map(([name, value]) => `${name} ${value.toFixed(2)}`), ...notes].join(", ");
}

/** Tokens answer to the mouse, and to the arrow keys while their answer has the focus; Enter marks one to continue from. */
function walk(box, answer) {
  let at = -1;
  const spans = () => [...box.querySelectorAll(".token")];
  const clear = () => spans().forEach((span) => span.classList.toggle("current", span.classList.contains("cut")));
  const mark = (i) => {
    if (state.running || answer !== lastAnswer()) return;
    answer.cut = answer.cut === i || i === answer.tokens.length - 1 ? null : i;
    drawText(answer);
    const go = answer.element.querySelector(".continue");
    if (go) go.textContent = continueText(answer);
  };
  box.goTo = (i) => {
    clear();
    // Markup is not seen: what comes before it is near enough.
    const near = spans().findLast((span) => span.at <= i) ?? spans()[0];
    const own = spans().filter((span) => span.at === near?.at);
    own.forEach((span) => span.classList.add("current"));
    at = i;
    if (own.length) {
      own[0].scrollIntoView({ block: "nearest" });
      $("token-said").textContent = tip(own[0]);
    }
  };
  box.addEventListener("mouseover", (event) => { if (event.target.token) tip(event.target); });
  box.addEventListener("mouseout", () => { $("tip").hidden = true; });
  box.addEventListener("click", (event) => { if (event.target.token) mark(event.target.at); });
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.target !== box) return;
    if (step) {
      // Tokens of which nothing is seen are passed by.
      const seen = [...new Set(spans().map((span) => span.at))];
      const next = step > 0 ? seen.find((i) => i > at) : seen.findLast((i) => i < at);
      if (next !== undefined) box.goTo(next);
      event.preventDefault();
    } else if (event.key === "Enter" && at >= 0) {
      mark(at);
      event.preventDefault();
    }
  });
  box.addEventListener("blur", () => { $("tip").hidden = true; clear(); });
}
