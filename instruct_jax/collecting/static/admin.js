// The overview keeps itself up to date: it asks for the numbers' version, and
// where that is another one, takes the sections that differ. Nothing moves
// that has not changed; what is open stays open, what has the focus keeps it.
"use strict";

(() => {
  const EVERY = 5000, PLOTS = 30000; // milliseconds
  const now = document.getElementById("now");
  let version = Number(now.dataset.version), drawn = version, drawnAt = Date.now();

  function say(text, stale) {
    if (now.textContent !== text) now.textContent = text;
    now.classList.toggle("stale", stale);
  }

  function take(fresh) {
    for (const section of fresh.querySelectorAll("section[id]")) {
      const old = document.getElementById(section.id);
      if (!old) continue;
      for (const open of old.querySelectorAll("details[open][id]")) {
        const same = section.querySelector(`#${CSS.escape(open.id)}`);
        if (same) same.open = true;
      }
      if (old.innerHTML === section.innerHTML) continue;
      const active = old.contains(document.activeElement) ? document.activeElement : null;
      const href = active && active.getAttribute("href");
      const scrolled = [...old.querySelectorAll(".scroll")].map((x) => x.scrollLeft);
      old.innerHTML = section.innerHTML;
      old.querySelectorAll(".scroll").forEach((x, n) => { x.scrollLeft = scrolled[n] || 0; });
      if (href) {
        const same = old.querySelector(`a[href="${CSS.escape(href)}"]`);
        if (same) same.focus({ preventScroll: true });
      } else if (active) {
        const same = old.querySelector(active.tagName.toLowerCase());
        if (same) same.focus({ preventScroll: true });
      }
    }
  }

  function draw() {
    if (drawn === version || Date.now() - drawnAt < PLOTS) return;
    drawn = version;
    drawnAt = Date.now();
    for (const shown of document.querySelectorAll("img[data-plot]")) {
      const next = new Image(); // The old one stays until the new one is there.
      next.onload = () => { shown.src = next.src; };
      next.src = `/admin/plots/${shown.dataset.plot}.svg?v=${version}`;
    }
  }

  async function ask() {
    const found = await fetch("/admin/state.json", { cache: "no-store" });
    if (!found.ok) throw new Error(String(found.status));
    const state = await found.json();
    if (state.version !== version) {
      const page = await fetch("/admin/live", { cache: "no-store" });
      if (!page.ok) throw new Error(String(page.status));
      take(new DOMParser().parseFromString(await page.text(), "text/html"));
      version = state.version;
    }
    draw();
    const count = state.answers.toLocaleString("en");
    say(`${count} answers`, false);
  }

  async function turn() {
    if (!document.hidden) {
      try {
        await ask();
      } catch (error) {
        say(error.message === "401"
          ? "You are signed out: open the admin's link again."
          : "No connection: these numbers are old.", true);
      }
    }
    setTimeout(turn, EVERY);
  }

  setTimeout(turn, EVERY);
})();
