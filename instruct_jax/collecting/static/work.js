"use strict";
/* A labeler's page: keys, drafts, the time of attention, and sending.

   The page is a form that works without this. What is written is kept in this
   browser until the server has said that it is saved; what cannot be sent waits
   in the outbox, and goes under the same `submission`, so that nothing is
   stored twice however often it is sent. */
(() => {
  const IDLE = 60; // seconds without a key or a pointer after which time stops
  const TIMEOUT = 20; // of a request
  const RETRIES = [2, 4, 8, 15, 30]; // seconds between two tries
  const form = document.getElementById("task");
  const { session, csrf } = (form || document.getElementById("done")).dataset;
  const notice = document.getElementById("notice");
  const live = document.getElementById("live");
  const { kind, assignment } = form ? form.dataset : {};
  const places = form ? [...form.querySelectorAll(".answers .answer")] : [];
  const kept = form ? [...form.elements].filter((one) => "keep" in one.dataset) : [];
  let seconds = 0;
  let busy = false;
  let touched = false; // something was done on this page: its draft is the newest
  let tries = 0;
  let timer = 0;

  // What this browser keeps, by session: who sits here next sees nothing of it.
  const keep = {
    get(name, otherwise) {
      try {
        return JSON.parse(localStorage.getItem(`${name}:${session}`)) ?? otherwise;
      } catch {
        return otherwise;
      }
    },
    set(name, value) {
      try {
        if (value === null) localStorage.removeItem(`${name}:${session}`);
        else localStorage.setItem(`${name}:${session}`, JSON.stringify(value));
        return true;
      } catch {
        return false; // no room, or storage is off
      }
    },
  };

  const say = (text) => {
    live.textContent = "";
    requestAnimationFrame(() => (live.textContent = text));
  };

  function tell(text, buttons = [], wrong = false) {
    notice.textContent = text;
    notice.classList.toggle("wrong", wrong);
    for (const [name, act] of buttons) {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: name, onclick: act });
      notice.append(document.createElement("br"), button);
    }
    notice.hidden = false;
    notice.scrollIntoView({ block: "center" });
  }

  const next = () => location.replace("/work");
  const rating = (place) => Number(form.querySelector(`input[name="rating-${place}"]:checked`)?.value || 0);
  const value = (name) => form.elements[name]?.value ?? "";

  const ranking = kind === "ranking" && new Ranking(document.getElementById("ranks"), {
    ratings: () => places.map((_, place) => rating(place)),
    changed: () => ((touched = true), save()),
    say,
  });

  // The answer, in the order in which things stand on the page.
  function answer() {
    if (kind === "ranking") {
      const ticked = (place) => [...places[place].querySelectorAll(".flag input")]
        .map((box) => [box.name.replace(/^flag-\d+-/, ""), box.checked]);
      return {
        ratings: places.map((_, place) => rating(place) || null),
        metadata: places.map((_, place) => Object.fromEntries(ticked(place))),
        ranks: ranking.ranks,
      };
    }
    if (kind === "comparison") return { choice: value("choice") };
    if (kind === "demonstration") return { response: value("response") };
    if (form.dataset.form === "few_shot") {
      const pairs = [...form.querySelectorAll(".example")].map((_, n) => ({ query: value(`query-${n}`), response: value(`response-${n}`) }));
      return { instruction: value("instruction"), examples: pairs.filter((pair) => pair.query.trim() || pair.response.trim()) };
    }
    if (form.dataset.form === "user_based") return { prompt: value("prompt"), use_case: value("use_case") };
    return { prompt: value("prompt") };
  }

  // What is missing, found here so that it is also found without a connection.
  function missing() {
    if (kind === "ranking") {
      const without = places.filter((_, place) => !rating(place));
      places.forEach((card) => card.classList.toggle("missing", without.includes(card)));
      if (!without.length) return null;
      const letters = without.map((card) => card.dataset.letter).join(", ");
      return { field: "ratings", said: `Rate ${letters} from 1 to 7.`, at: without[0] };
    }
    if (kind === "comparison") return value("choice") ? null : { field: "choice", said: "Choose A, B or equally good.", at: form.querySelector('[name="choice"]') };
    const given = answer();
    if (given.examples && !given.examples.length) return { field: "examples", said: "Write at least one example.", at: form.elements["query-0"] };
    for (const [name, text] of Object.entries(given)) {
      if (typeof text === "string" && !text.trim()) return { field: name, said: "Write something here.", at: form.elements[name] };
    }
    return null;
  }

  function problems(errors) {
    for (const each of document.querySelectorAll("[data-problem]")) {
      const said = errors[each.dataset.problem];
      each.hidden = !said;
      each.textContent = said || "";
    }
  }

  // Drafts. Of a page that was only looked at the draft is that of another tab,
  // or of before; it adds the time alone.
  function save() {
    const draft = touched ? null : keep.get(`draft-${assignment}`, null);
    if (draft) return keep.set(`draft-${assignment}`, { ...draft, seconds: Math.max(draft.seconds || 0, seconds) });
    const fields = kept.map((one) => (one.type === "checkbox" || one.type === "radio" ? one.checked : one.value));
    const stored = keep.set(`draft-${assignment}`, { fields, seconds, ranking: ranking ? ranking.state : null, at: Date.now() });
    if (!stored && kept.some((one) => one.tagName === "TEXTAREA" && one.value)) say("This browser keeps no drafts.");
  }

  function restore() {
    const draft = keep.get(`draft-${assignment}`, null);
    if (!draft || draft.fields.length !== kept.length) return;
    kept.forEach((one, n) => {
      if (one.type === "checkbox" || one.type === "radio") one.checked = draft.fields[n];
      else if (draft.fields[n] || !one.value) one.value = draft.fields[n];
    });
    seconds = draft.seconds || 0;
    if (ranking) draft.ranking ? ranking.restore(draft.ranking) : ranking.byRatings();
  }

  // Old drafts go; that of the last answer stays, for whoever undoes it.
  function tidy(answered) {
    const ends = `:${session}`;
    for (const name of Object.keys(localStorage)) {
      if (!name.startsWith("draft-") || !name.endsWith(ends)) continue;
      const short = name.slice(0, -ends.length);
      const age = Date.now() - (keep.get(short, {}).at || 0);
      if (age > 7 * 864e5 || (answered && short !== `draft-${answered}` && short !== `draft-${assignment}`)) keep.set(short, null);
    }
  }

  // Sending.
  async function post(item) {
    const stop = new AbortController();
    const limit = setTimeout(() => stop.abort(), TIMEOUT * 1000);
    try {
      const reply = await fetch(item.path, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify({ ...item.body, csrf }), // of this page: an item may be from an earlier visit
        signal: stop.signal,
      });
      return { status: reply.status, wait: Number(reply.headers.get("Retry-After")) || 0, said: await reply.json().catch(() => ({})) };
    } catch {
      return { status: 0, wait: 0, said: {} }; // no connection, or none in time
    } finally {
      clearTimeout(limit);
    }
  }

  const outbox = () => keep.get("outbox", []);
  const drop = (item) => keep.set("outbox", outbox().filter((each) => each.body.submission !== item.body.submission));

  async function flush() {
    clearTimeout(timer);
    if (busy || !outbox().length) return;
    busy = true;
    while (outbox().length) {
      const item = outbox()[0];
      const { status, wait, said } = await post(item);
      if (status === 200) {
        drop(item);
        tries = 0;
        tidy(item.body.assignment);
        continue;
      }
      busy = false;
      if (status === 0 || status === 429 || status >= 500) return later(status, wait);
      if (status === 401) return tell("Your invitation is not valid any more, or this browser has forgotten it. What you wrote is kept here: open your invitation again.", [], true);
      if (status === 403) return tell("Not sent yet: this page is from an earlier visit. What you wrote is kept; load the page again, and it is sent.", [["Load again", () => location.reload()]], true);
      drop(item);
      ready();
      return refused(item, status, said);
    }
    busy = false;
    next();
  }

  function later(status, wait) {
    const pause = Math.max(wait, RETRIES[Math.min(tries++, RETRIES.length - 1)]);
    const why = status ? "The server is busy" : "There is no connection";
    tell(`${why}. Your answer is kept in this browser and sent as soon as possible: leave this page open, or come back later.`, [["Try now", flush]]);
    timer = setTimeout(flush, pause * 1000);
  }

  function refused(item, status, said) {
    const own = form && String(item.body.assignment) === assignment;
    if (status === 422 && own) {
      problems(said.errors || {});
      const shown = Object.keys(said.errors || {}).some((field) => document.getElementById(`problem-${field}`));
      tell(shown ? "Not saved yet: see what is marked." : `Not saved: ${Object.values(said.errors || {}).join("; ") || said.message}`, [], true);
    } else {
      tell(`Not saved: ${said.message || `the server answered ${status}`}`, [["Go on to the next task", next]], true);
    }
  }

  function ready() {
    for (const id of ["save", "skip-button"]) document.getElementById(id)?.toggleAttribute("disabled", false);
  }

  function send(path, more) {
    if (busy) return; // it is on its way
    // What waits for this task and was written over meanwhile is not meant any more.
    const box = outbox().filter((each) => String(each.body.assignment) !== assignment);
    for (const id of ["save", "skip-button"]) document.getElementById(id)?.toggleAttribute("disabled", true);
    problems({});
    notice.hidden = true;
    save();
    const body = {
      assignment: Number(assignment),
      submission: value("submission"),
      seconds: Math.round(seconds),
      ...more,
    };
    if (!keep.set("outbox", [...box, { path, body }])) return direct({ path, body });
    flush();
  }

  // Where the browser keeps nothing, an answer is sent without an outbox.
  async function direct(item) {
    const { status, said } = await post(item);
    if (status === 200) return next();
    ready();
    if (status) refused(item, status, said);
    else tell("There is no connection, and this browser keeps nothing: stay on this page and save again.", [], true);
  }

  function submit() {
    const found = missing();
    if (found) {
      problems({ [found.field]: found.said });
      say(found.said);
      found.at?.focus();
      return;
    }
    send("/answer", { answer: answer(), sensitive: form.elements.sensitive.checked });
  }

  // Keys.
  const card = () => document.activeElement.closest?.(".card.answer");
  const active = () => {
    const at = document.activeElement.closest?.("[data-place]");
    return at ? Number(at.dataset.place) : -1;
  };

  function focusCard(place) {
    const target = places[Math.max(0, Math.min(places.length - 1, place))];
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest" });
    mark();
  }

  function mark() {
    const place = active();
    document.querySelectorAll(".row").forEach((row) => row.classList.toggle("active", Number(row.dataset.place) === place));
  }

  function rankingKey(event, place) {
    const { key } = event;
    if (event.altKey && place >= 0 && (key === "ArrowUp" || key === "ArrowDown")) ranking.move(place, key === "ArrowUp" ? "up" : "down");
    else if (event.altKey) return false;
    else if (/^[1-7]$/.test(key) && place >= 0) {
      places[place].querySelector(`input[value="${key}"][type=radio]`).checked = true;
      rated(place);
      say(`${places[place].dataset.letter}: ${key} of 7.`);
    } else if (key === "j" || key === "ArrowDown") focusCard(place + 1);
    else if (key === "k" || key === "ArrowUp") focusCard(place < 0 ? 0 : place - 1);
    else if (key === "t" && place >= 0) ranking.move(place, "tie");
    else if (key === "f" && place >= 0) {
      const flags = places[place].querySelector(".flags");
      flags.open = true;
      flags.querySelector("input").focus();
    } else return false;
    return true;
  }

  function comparisonKey({ key }) {
    const choice = { a: "a", b: "b", t: "tie" }[key];
    if (!choice) return false;
    const input = form.querySelector(`[name="choice"][value="${choice}"]`);
    input.checked = true;
    input.focus();
    touched = true;
    save();
    return true;
  }

  // On a keyboard of another script it is the key that counts, not its letter.
  function typed({ key, code }) {
    if (key.length > 1) return key;
    return /^[!-~]$/.test(key) ? key.toLowerCase() : code.replace(/^(Key|Digit)/, "").toLowerCase();
  }

  function onKey(event) {
    const at = document.activeElement;
    const writes = at.tagName === "TEXTAREA" || /^(text|number|search)$/.test(at.type);
    if (event.isComposing || document.getElementById("help").open) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      return submit();
    }
    if (event.key === "Escape" && at !== document.body) {
      const of = at.closest(".card.answer");
      if (of && of !== at) focusCard(Number(of.dataset.place));
      else at.blur();
      return;
    }
    if (writes || event.ctrlKey || event.metaKey || !document.getElementById("keys-on").checked) return;
    // On what has keys of its own (a radio's arrows, a button's Enter) they are its own.
    const own = at.closest("button, a, summary, select") && event.key === "Enter";
    const arrows = at.type === "radio" && event.key.startsWith("Arrow") && !event.altKey;
    if (own || arrows) return;
    const lower = { key: typed(event), altKey: event.altKey };
    let done = ranking ? rankingKey(lower, active()) : kind === "comparison" && !event.altKey && comparisonKey(lower);
    if (!done && !event.altKey) {
      done = true;
      if (event.key === "Enter" && (ranking || kind === "comparison")) submit();
      else if (lower.key === "u") document.getElementById("undo-button")?.click();
      else if (lower.key === "s" && document.getElementById("reason")) {
        document.getElementById("skip-details").open = true;
        document.getElementById("reason").focus();
      } else if (event.key === "?") document.getElementById("help").showModal();
      else done = false;
    }
    if (done) event.preventDefault();
  }

  function rated(place) {
    touched = true;
    places[place].classList.remove("missing");
    ranking.rated(place);
    changed();
  }

  function changed() {
    if (ranking) document.getElementById("by-ratings").hidden = !ranking.touched;
    for (const count of document.querySelectorAll("[data-count]")) {
      const ticked = places[count.dataset.count].querySelectorAll(".flag input:checked").length;
      count.textContent = ticked ? `${ticked} ticked` : "";
    }
    const length = document.getElementById("length");
    if (length) length.textContent = `${value("response").length.toLocaleString("en")} characters`;
    save();
  }

  // The time of attention: while the page is in front and something happens.
  function clock() {
    let moved = Date.now();
    for (const name of ["keydown", "pointermove", "pointerdown", "scroll", "wheel"]) {
      addEventListener(name, () => (moved = Date.now()), { passive: true, capture: true });
    }
    setInterval(() => {
      if (!document.hasFocus() || document.hidden || Date.now() - moved > IDLE * 1000) return;
      seconds += 1;
      if (seconds % 10 === 0) save();
    }, 1000);
  }

  function folds() {
    for (const text of document.querySelectorAll(".text.folded")) {
      const button = document.createElement("button");
      const words = `all ${Number(text.dataset.length).toLocaleString("en")} characters`;
      Object.assign(button, { type: "button", className: "quiet", textContent: `Show ${words}` });
      button.setAttribute("aria-expanded", "false");
      button.onclick = () => {
        const open = text.classList.toggle("open");
        button.setAttribute("aria-expanded", open);
        button.textContent = open ? "Show less" : `Show ${words}`;
      };
      text.after(button);
    }
  }

  function code(button) {
    const show = (on) => {
      document.body.classList.toggle("mono", on);
      button.setAttribute("aria-pressed", on);
    };
    show(keep.get("mono", false));
    button.onclick = () => {
      keep.set("mono", !keep.get("mono", false));
      show(keep.get("mono", false));
    };
  }

  function start() {
    if (matchMedia("(max-width: 40rem)").matches) form.querySelectorAll(".flags").forEach((each) => (each.open = false));
    restore();
    const more = form.querySelector(".more"); // what is filled is seen
    if (more && [...more.querySelectorAll("textarea")].some((one) => one.value)) more.open = true;
    tidy();
    changed();
    clock();
    folds();
    const mono = document.getElementById("mono");
    if (mono) code(mono);
    const keys = document.getElementById("keys-on");
    keys.checked = keep.get("keys", true);
    keys.onchange = () => keep.set("keys", keys.checked);
    document.getElementById("help-open").onclick = () => document.getElementById("help").showModal();
    form.addEventListener("submit", (event) => (event.preventDefault(), submit()));
    document.getElementById("skip").addEventListener("submit", (event) => {
      event.preventDefault();
      const flag = [...event.target.elements].find((one) => one.name === "sensitive");
      send("/skip", { reason: document.getElementById("reason").value, sensitive: flag.checked || form.elements.sensitive.checked });
    });
    form.addEventListener("input", (event) => {
      touched = true;
      const of = event.target.closest(".card.answer");
      if (event.target.type === "radio" && ranking) rated(Number(of.dataset.place));
      else changed();
    });
    if (ranking) {
      document.getElementById("by-ratings").onclick = () => ((touched = true), ranking.byRatings(), changed());
      document.addEventListener("focusin", mark);
      new MutationObserver(() => (document.getElementById("by-ratings").hidden = !ranking.touched)).observe(document.getElementById("ranks"), { childList: true });
    }
    document.addEventListener("keydown", onKey);
    addEventListener("pagehide", save);
    // Another tab has sent the answer to this task.
    addEventListener("storage", (event) => {
      if (event.key !== `outbox:${session}` || busy) return;
      const had = (text) => JSON.parse(text || "[]").some((each) => String(each.body.assignment) === assignment);
      if (had(event.oldValue) && !had(event.newValue)) tell("This task was answered in another tab.", [["Go on to the next task", next]]);
    });
  }

  if (form) start();
  addEventListener("online", flush);
  addEventListener("pageshow", (event) => (event.persisted ? location.reload() : flush()));
})();
