// The page of xqg serve: asks the server's own API, and puts in what it says as text.
(() => {
  "use strict";
  const { make, textNodes } = parts;
  const byId = (id) => document.getElementById(id);
  const columns = [...document.querySelectorAll(".run")];
  const selects = columns.map((column) => column.querySelector("select"));
  const form = byId("form");
  const status = byId("status");
  const NEAREST = 6; // lines below a passage
  const AT_ONCE = 2; // passages whose queries are asked for together
  let about; // what there is to ask for
  let asked = 0; // the number of the question that was asked last: answers to earlier ones come too late

  async function ask(path, values = {}) {
    const query = new URLSearchParams(values).toString();
    const response = await fetch(path + (query && `?${query}`));
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }

  function say(text, isWarning = false) {
    status.textContent = text;
    status.classList.toggle("warn", isWarning);
  }

  const nameOf = (code) => about.languages[code] || code;
  const shown = () => (columns[1].hidden ? columns.slice(0, 1) : columns);

  async function start() {
    try {
      about = await ask("v1");
    } catch (error) {
      byId("about").textContent = `The server does not answer (${error.message}).`;
      return;
    }
    const sizes = [...new Set(about.indexes.map((index) => index.vectors.toLocaleString("en")))];
    const encoders = [...new Set(about.indexes.map((index) => index.encoder))];
    byId("about").textContent = `${sizes.join(" and ")} vectors, made by ${encoders.join(" and ")}. ` +
      (about.queries ? "Below a passage: its generated queries, nearest to the question first." : "");
    for (const [code, name] of Object.entries(about.languages)) {
      byId("language").append(make("option", { value: code }, `${name} (${code})`));
    }
    selects.forEach((select, side) => {
      for (const { name } of about.indexes) select.append(make("option", { value: name }, name));
      select.value = about.pair[side];
      select.addEventListener("change", () => { describe(); search(); });
    });
    columns[1].hidden = about.indexes.length === 1;
    byId("hits").classList.toggle("single", columns[1].hidden);
    form.addEventListener("submit", (event) => { event.preventDefault(); search(true); });
    for (const id of ["language", "count"]) byId(id).addEventListener("change", () => search());
    addEventListener("popstate", restore);
    describe();
    restore();
  }

  function describe() {
    columns.forEach((column, side) => {
      const index = about.indexes.find(({ name }) => name === selects[side].value);
      column.querySelector(".what").replaceChildren(index.what, make("span", { class: "time" }));
    });
  }

  // the address holds what was asked, so that it can be kept, and gone back to
  const fields = () => ({
    q: byId("query"), language: byId("language"), hits: byId("count"), first: selects[0], second: selects[1],
  });

  function restore() {
    const given = new URLSearchParams(location.search);
    for (const [name, field] of Object.entries(fields())) {
      const value = given.get(name);
      if (value === null) continue;
      if (!field.options || [...field.options].some((option) => option.value === value)) field.value = value;
    }
    describe();
    search();
  }

  function keep(isNew) {
    const values = Object.entries(fields()).map(([name, field]) => [name, field.value]);
    const address = `?${new URLSearchParams(values)}`;
    if (address !== location.search) history[isNew ? "pushState" : "replaceState"](null, "", address);
  }

  async function search(isNew = false) {
    const query = byId("query").value.trim();
    const number = ++asked;
    if (!query) return;
    keep(isNew);
    document.title = `${query} · Search`;
    say("Searching …");
    const values = { query, language: byId("language").value, hits: byId("count").value };
    const answers = await Promise.all(shown().map((_, side) =>
      ask(`v1/${encodeURIComponent(selects[side].value)}/search`, values).catch((error) => ({ error }))));
    if (number !== asked) return;
    const found = answers.find((answer) => !answer.error);
    shown().forEach((column, side) => showHits(column, answers[side], answers[1 - side]));
    if (!found) {
      say(answers[0].error.message, true);
      return;
    }
    const { language, language_name: name, language_by: by } = found.query;
    const how = { model: " (told by a model)", script: " (told by its script)", given: "" }[by] || "";
    say(language ? `In ${name}${how}` : "In a language that is not known");
    if (about.queries) await pull(number, values, answers, language);
  }

  function showHits(column, answer, other) {
    const list = column.querySelector(".hits");
    const note = column.querySelector(".warn");
    const notes = answer.error ? [answer.error.message] : answer.notes;
    note.textContent = notes.join("; ");
    note.hidden = !notes.length;
    column.querySelector(".time").textContent = answer.error ? "" : ` · ${Math.round(answer.milliseconds)} ms`;
    const ranks = other && !other.error
      ? new Map(other.candidates.map((candidate) => [candidate.docid, candidate.rank])) : null;
    list.replaceChildren(...(answer.error ? [] : answer.candidates.map((one) => hit(one, ranks))));
    for (const element of list.children) {
      const passage = element.querySelector(".passage");
      if (passage.scrollHeight > passage.clientHeight + 4) continue;
      element.classList.remove("long");
      element.querySelector(".more").hidden = true;
    }
  }

  function hit({ docid, score, rank, doc }, ranks) {
    const title = doc && doc.title ? doc.title : "";
    const text = doc === null ? "" : doc.text === undefined ? doc : doc.text;
    const head = make("header", {}, make("span", { class: "rank" }, String(rank)),
      make("span", { class: "title", dir: "auto" }, ...textNodes(title)),
      make("span", { class: "score", title: "score" }, score.toFixed(4)));
    if (ranks) head.append(moved(rank, ranks.get(docid)));
    const more = make("button", { type: "button", class: "more", "aria-expanded": "false" }, "more");
    const element = make("li", { class: "hit long" }, head,
      make("p", { class: "passage", dir: "auto" }, ...textNodes(text)), more,
      make("div", { class: "docid" }, make("bdi", {}, ...textNodes(docid))));
    more.addEventListener("click", () => {
      const open = element.classList.toggle("open");
      more.textContent = open ? "less" : "more";
      more.setAttribute("aria-expanded", String(open));
    });
    element.docid = docid;
    const twins = (on) => {
      const alike = [...document.querySelectorAll(".hit")].filter((one) => one.docid === docid);
      for (const one of alike) one.classList.toggle("same", on && alike.length > 1);
    };
    element.addEventListener("mouseenter", () => twins(true));
    element.addEventListener("mouseleave", () => twins(false));
    return element;
  }

  function moved(rank, there) {
    if (there === undefined) return make("span", { class: "moved" }, "not in the other list");
    if (there === rank) return make("span", { class: "moved" }, "other list: the same");
    const up = there > rank;
    return make("span", { class: `moved ${up ? "up" : "down"}` }, `${up ? "↑" : "↓"} other list: ${there}`);
  }

  // the queries of both lists' passages, best ranks first, a few at a time: another question need not wait for all
  async function pull(number, values, answers, language) {
    const all = answers.flatMap((answer) => answer.candidates || []).sort((a, b) => a.rank - b.rank);
    const docids = [...new Set(all.map(({ docid }) => docid))];
    for (let from = 0; from < docids.length && number === asked; from += AT_ONCE) {
      const query = [["query", values.query], ["language", language || ""],
        ...docids.slice(from, from + AT_ONCE).map((docid) => ["docid", docid])];
      let answer;
      try {
        answer = await ask(`v1/${encodeURIComponent(selects[0].value)}/queries`, query);
      } catch (error) {
        if (number === asked) say(error.message, true);
        return;
      }
      if (number !== asked) return;
      for (const passage of answer.passages) {
        for (const element of document.querySelectorAll(".hit")) {
          if (element.docid === passage.docid) element.append(pulled(passage, language));
        }
      }
    }
  }

  function pulled({ own, queries }, language) {
    const inLanguage = language in about.languages ? ` in ${nameOf(language)}` : "";
    const lines = queries.map(({ text, language: code, score }) => ({
      score,
      nodes: [make("span", { class: "words", dir: "auto", lang: code }, ...textNodes(text)),
        make("abbr", { class: "code", title: nameOf(code) }, code)],
    }));
    if (own !== null) lines.push({ score: own, isOwn: true, nodes: [make("em", { class: "words" }, "the passage itself")] });
    lines.sort((a, b) => b.score - a.score);
    const more = lines.slice(NEAREST).filter(({ isOwn }) => !isOwn).length;
    const rest = !queries.length ? `no generated query${inLanguage}` : more ? `and ${more} more` : "";
    return make("ol", { class: "pulled", "aria-label": "Generated queries, with their cosine to the question" },
      ...lines.filter(({ isOwn }, i) => isOwn || i < NEAREST).map(({ score, nodes }) => make("li", {},
        make("span", { class: "value" }, score.toFixed(3)), ...nodes)),
      ...(rest ? [make("li", { class: "quiet" }, rest)] : []));
  }

  start();
})();
