// The page's explorer and its few switches. Texts come from the JSON in #data and are only ever
// put in as text nodes; nothing is fetched.
(() => {
  "use strict";
  const { make, textNodes } = parts;
  const $$ = (selector) => [...document.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);

  // one metric at a time
  const chooser = byId("metrics");
  if (chooser) {
    chooser.hidden = false;
    const show = () => {
      const chosen = chooser.querySelector("input:checked").value;
      for (const block of $$("[data-metric]")) block.hidden = block.dataset.metric !== chosen;
    };
    chooser.addEventListener("change", show);
    show();
  }

  // paper has all figures and all numbers; afterwards the page is as it was
  let restore = [];
  addEventListener("beforeprint", () => {
    const blocks = $$("[data-metric]").filter((block) => block.hidden);
    const folded = $$("main details").filter((one) => !one.open && !one.closest("#explorer"));
    for (const block of blocks) block.hidden = false;
    for (const one of folded) one.open = true;
    restore.push(() => {
      for (const block of blocks) block.hidden = true;
      for (const one of folded) one.open = false;
    });
  });
  addEventListener("afterprint", () => {
    for (const undo of restore) undo();
    restore = [];
  });

  if (!data.questions) return;

  // ---------------------------------------------------------------- the explorer

  const list = byId("questions");
  const language = byId("language");
  const search = byId("search");
  const selects = $$(".run select");
  let current = -1;
  let visible = [];

  for (const code of new Set(data.questions.map((question) => question.language))) {
    language.append(make("option", { value: code }, `${data.languages[code]} (${code})`));
  }
  selects.forEach((select, side) => {
    data.runs.forEach((run, i) => select.append(make("option", { value: i }, run)));
    select.value = data.runs.indexOf(data.pair[side]);
    select.addEventListener("change", show);
  });
  const sides = () => selects.map((select) => Number(select.value));
  const langOf = (code) => (code === "und" ? undefined : code);

  const items = data.questions.map((question, i) => {
    const text = make("div", { dir: "auto", lang: langOf(question.language) },
      ...textNodes(question.text));
    const about = make("span", { class: "about" }, make("bdi", {}, question.id));
    const item = make("li", { role: "option", id: `question-${i}`, "aria-selected": "false" });
    item.append(text, about);
    item.addEventListener("click", () => choose(i));
    list.append(item);
    return item;
  });

  function filter() {
    const wanted = search.value.trim().toLowerCase();
    visible = [];
    data.questions.forEach((question, i) => {
      const fits = (!language.value || question.language === language.value) &&
        [question.text, question.id, ...question.answers].join("\n").toLowerCase().includes(wanted);
      items[i].hidden = !fits;
      if (fits) visible.push(i);
    });
    byId("count").textContent = `${visible.length} of ${data.questions.length} questions`;
    if (visible.length && !visible.includes(current)) choose(visible[0]);
  }

  function choose(i) {
    if (current >= 0) items[current].setAttribute("aria-selected", "false");
    current = i;
    items[i].setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", items[i].id);
    const top = items[i].offsetTop - list.offsetTop;
    if (top < list.scrollTop) list.scrollTop = top;
    const over = top + items[i].offsetHeight - list.clientHeight;
    if (over > list.scrollTop) list.scrollTop = over;
    show();
  }

  list.addEventListener("keydown", (event) => {
    const place = visible.indexOf(current);
    const to = {
      ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: visible.length - 1,
      PageDown: Math.min(place + 8, visible.length - 1), PageUp: Math.max(place - 8, 0),
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (to >= 0 && to < visible.length) choose(visible[to]);
  });
  language.addEventListener("change", filter);
  search.addEventListener("input", filter);

  // scores of measures of hit or miss are said in words
  function scoreOf(question, run) {
    const parts = data.metrics.map((metric, m) => {
      const value = question.scores[run][m];
      return value === null ? null : `${metric} ${Number((100 * value).toFixed(1))}`;
    });
    return parts.filter((part) => part !== null).join(" · ");
  }

  function show() {
    const question = data.questions[current];
    const asked = byId("asked");
    asked.replaceChildren(...textNodes(question.text));
    asked.lang = question.language === "und" ? "" : question.language;
    byId("answers").replaceChildren(...(question.answers.length
      ? ["Answers: ", ...question.answers.flatMap((answer, i) =>
        [...(i ? [" · "] : []), make("mark", { dir: "auto" }, ...textNodes(answer))])]
      : ["No answer is known for this question."]));
    const scale = scaleOf(question);
    const chosen = sides();
    chosen.forEach((run, side) => {
      const other = chosen[1 - side];
      const column = selects[side].closest(".run");
      column.style.setProperty("--run", `var(--series-${data.colors[run]})`);
      const docs = question.hits[run];
      column.querySelector(".score").textContent = scoreOf(question, run);
      const place = docs.findIndex((doc) => question.marks[doc] && question.marks[doc].answers);
      column.querySelector(".first").textContent = place < 0
        ? `No answer in the first ${data.depth} passages`
        : `First answer in passage ${place + 1}`;
      column.querySelector(".hits").replaceChildren(...(docs.length
        ? docs.map((doc, rank) => hit(question, doc, rank, other, scale))
        : [make("li", { class: "quiet" }, "This run has no passage for this question.")]));
    });
    byId("status").textContent = `Question ${visible.indexOf(current) + 1} of ${visible.length}`;
    $$(".hit").forEach((element) => {
      const passage = element.querySelector(".passage");
      const hasFold = passage.scrollHeight > passage.clientHeight + 4;
      const more = element.querySelector(".more");
      if (hasFold && element.classList.contains("long")) return;
      element.classList.remove("long");
      more.hidden = true;
    });
  }

  function hit(question, doc, rank, other, scale) {
    const [docid, title, text] = data.passages[doc];
    const mark = question.marks[doc] || {};
    const head = make("header", {}, make("span", { class: "rank" }, String(rank + 1)),
      make("span", { class: "title", dir: "auto" }, ...textNodes(title)));
    if (mark.relevant) head.append(make("span", { class: "tag" }, "relevant"));
    if (other !== undefined) head.append(moved(rank, question.hits[other].indexOf(doc)));
    const passage = make("p", { class: "passage", dir: "auto" });
    let at = 0;
    for (const [start, end] of mark.answers || []) {
      passage.append(...textNodes(text.slice(at, start)),
        make("mark", {}, ...textNodes(text.slice(start, end))));
      at = end;
    }
    passage.append(...textNodes(text.slice(at)));
    const more = make("button", { type: "button", class: "more", "aria-expanded": "false" });
    more.append("more");
    const fold = mark.answers ? "hit" : "hit long"; // an answer is never folded away
    const element = make("li", { class: fold, "data-doc": doc }, head, passage);
    more.addEventListener("click", () => {
      const open = element.classList.toggle("open");
      more.textContent = open ? "less" : "more";
      more.setAttribute("aria-expanded", String(open));
    });
    element.append(more);
    const telling = rank === 0 || mark.answers || mark.relevant;
    if (mark.near) element.append(near(question, mark.near, scale, telling));
    element.append(make("div", { class: "docid" }, make("bdi", {}, docid)));
    const twins = (on) => $$(`.hit[data-doc="${doc}"]`).forEach((one) => {
      one.classList.toggle("same", on && $$(`.hit[data-doc="${doc}"]`).length > 1);
    });
    element.addEventListener("mouseenter", () => twins(true));
    element.addEventListener("mouseleave", () => twins(false));
    return element;
  }

  function moved(rank, there) {
    if (there < 0) {
      return make("span", { class: "moved" }, `other run: not in its first ${data.depth}`);
    }
    if (there === rank) return make("span", { class: "moved" }, "other run: the same");
    const up = there > rank;
    return make("span", { class: `moved ${up ? "up" : "down"}` },
      `${up ? "↑" : "↓"} other run: ${there + 1}`);
  }

  // bars of one question share one scale: from its least to its greatest similarity
  function scaleOf(question) {
    let low = Infinity;
    let high = -Infinity;
    for (const { near } of Object.values(question.marks)) {
      if (!near) continue;
      for (const value of [near.own, near.mean ?? near.own, ...near.nearest.map((n) => n[0])]) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    const from = low - 0.08 * (high - low || 1);
    return (value) => `${(100 * (value - from) / (high - from || 1)).toFixed(1)}%`;
  }

  function near(question, found, scale, open) {
    const lines = found.nearest.map(([value, code, text]) => {
      const own = code === question.language;
      return line(own ? "own" : "", value, code, text, code, own);
    });
    const self = line("self", found.own, "", "the passage itself", undefined, false);
    const more = [];
    if (found.mean !== null) more.push(`mean of all ${found.queries}: ${found.mean.toFixed(3)}`);
    if (found.same_mean !== null) {
      more.push(`of the ${found.same} in ${data.languages[question.language]}: ` +
        found.same_mean.toFixed(3));
    }
    if (!found.queries) more.push("no generated queries");
    const all = [self, ...lines].sort((a, b) => b.value - a.value).map((entry) => entry.element);
    return make("details", { class: "near", open: open ? "" : undefined },
      make("summary", {}, "Similarity to the question"),
      make("ol", {}, ...all), make("div", { class: "quiet" }, more.join("; ")));

    function line(kind, value, code, text, lang, own) {
      const bar = make("span", { class: "bar", "aria-hidden": "true" });
      const fill = make("i");
      const tick = make("b");
      fill.style.width = scale(value);
      tick.style.left = scale(found.own);
      bar.append(fill, tick);
      const name = code && data.languages[code];
      const title = code ? (own ? `${name}, the question's language` : name) : undefined;
      const element = make("li", { class: kind }, bar,
        make("span", { class: "value" }, value.toFixed(3)),
        make("abbr", { class: "code", title }, code),
        make("span", { class: "words", dir: "auto", lang }, ...textNodes(text)));
      return { value, element };
    }
  }

  byId("explorer").hidden = false;
  filter();
})();
