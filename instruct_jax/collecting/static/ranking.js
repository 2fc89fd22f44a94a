"use strict";
/* The order of the answers of one task, by drag, buttons and keys.

   `tiers` holds places (where an answer stands on the page), best first; those
   of one tier are tied. `unplaced` are answers that are neither rated nor
   moved. Until somebody moves one the order is that of the ratings. */
class Ranking {
  constructor(list, { ratings, say, changed }) {
    this.list = list;
    this.ratings = ratings; // () => [1..7 or 0] by place
    this.say = say;
    this.changed = changed;
    this.touched = false;
    this.rows = [...list.children].sort((a, b) => a.dataset.place - b.dataset.place);
    this.tiers = [];
    this.unplaced = this.rows.map((_, place) => place);
    list.addEventListener("click", (event) => this.onClick(event));
    list.addEventListener("pointerdown", (event) => this.onPointer(event));
    this.byRatings();
  }

  // What is kept in the browser, and taken from there.
  get state() {
    return { tiers: this.tiers, unplaced: this.unplaced, touched: this.touched };
  }

  restore(state) {
    const every = [...state.tiers.flat(), ...state.unplaced].sort((a, b) => a - b);
    if (String(every) !== String(this.rows.map((_, place) => place))) return;
    Object.assign(this, { tiers: state.tiers, unplaced: state.unplaced, touched: state.touched });
    this.draw();
  }

  // 1 is best; null is not ranked yet.
  get ranks() {
    return this.rows.map((_, place) => this.tierOf(place) + 1 || null);
  }

  byRatings() {
    const ratings = this.ratings();
    const values = [...new Set(ratings.filter((rating) => rating))].sort((a, b) => b - a);
    this.tiers = values.map((value) => ratings.flatMap((rating, place) => (rating === value ? [place] : [])));
    this.unplaced = ratings.flatMap((rating, place) => (rating ? [] : [place]));
    this.touched = false;
    this.draw();
  }

  rated(place) {
    if (!this.touched) return this.byRatings();
    if (this.tierOf(place) < 0) {
      // The rest was moved by hand: this one goes below all that are as good.
      const ratings = this.ratings();
      const best = this.tiers.map((tier) => Math.max(...tier.map((each) => ratings[each] || 0)));
      let at = best.findIndex((rating) => rating < ratings[place]);
      if (at < 0) at = this.tiers.length;
      this.take(place);
      this.tiers.splice(at, 0, [place]);
    }
    this.draw();
  }

  tierOf(place) {
    return this.tiers.findIndex((tier) => tier.includes(place));
  }

  take(place) {
    this.tiers = this.tiers.map((tier) => tier.filter((each) => each !== place)).filter((tier) => tier.length);
    this.unplaced = this.unplaced.filter((each) => each !== place);
  }

  move(place, way) {
    const at = this.tierOf(place);
    const tier = this.tiers[at] || [];
    if (at < 0) {
      this.take(place); // from below, to the end of what is ranked
      if (way === "tie" && this.tiers.length) this.tiers.at(-1).push(place);
      else this.tiers.push([place]);
    } else if (way === "tie") {
      const first = tier[0] === place;
      if (first && at === 0) return this.say("Nothing stands above it.");
      const above = this.tiers[at - 1];
      this.take(place);
      if (first) above.push(place), (this.tiers = this.tiers.map((each) => (each[0] === above[0] ? above : each)));
      else this.tiers.splice(at + 1, 0, [place]);
    } else if (tier.length > 1) {
      this.take(place); // out of the tie, to the side that was asked for
      this.tiers.splice(way === "up" ? at : at + 1, 0, [place]);
    } else {
      const other = way === "up" ? at - 1 : at + 1;
      if (!this.tiers[other]) return this.say(way === "up" ? "It is the best already." : "It is the last already.");
      [this.tiers[at], this.tiers[other]] = [this.tiers[other], this.tiers[at]];
    }
    this.finish(place);
  }

  drop(place, target, side) {
    if (place === target) return;
    this.take(place);
    const at = this.tierOf(target);
    if (at < 0) this.tiers.push([place]);
    else if (side === "onto") this.tiers[at].push(place);
    else this.tiers.splice(side === "before" ? at : at + 1, 0, [place]);
    this.finish(place);
  }

  finish(place) {
    this.touched = true;
    this.draw();
    this.changed();
    const at = this.tierOf(place);
    const ties = this.tiers[at].filter((each) => each !== place).map((each) => this.letter(each));
    const tied = ties.length ? `, tied with ${ties.join(" and ")}` : "";
    this.say(`${this.letter(place)}: rank ${at + 1} of ${this.tiers.length}${tied}.`);
  }

  letter(place) {
    return this.rows[place].querySelector(".letter").textContent;
  }

  draw() {
    const focused = document.activeElement;
    const order = [...this.tiers.flat(), ...this.unplaced];
    const now = [...this.list.children].map((row) => Number(row.dataset.place));
    if (String(now) !== String(order)) this.list.append(...order.map((place) => this.rows[place]));
    const ratings = this.ratings();
    for (const place of order) {
      const row = this.rows[place];
      const at = this.tierOf(place);
      const tier = this.tiers[at] || [];
      const tied = at >= 0 && tier[0] !== place;
      row.classList.toggle("tied", tied);
      row.classList.toggle("tie-below", at >= 0 && tier.at(-1) !== place);
      row.querySelector(".place").textContent = at < 0 ? "–" : tied ? "=" : at + 1;
      row.querySelector("input").value = at < 0 ? "" : at + 1;
      row.querySelector(".stars").textContent = ratings[place] ? `${ratings[place]}/7` : "";
      row.querySelector('[data-move="tie"]').setAttribute("aria-pressed", tied);
      row.querySelector('[data-move="up"]').toggleAttribute("data-nowhere", at === 0 && tier.length === 1);
      row.querySelector('[data-move="down"]').toggleAttribute("data-nowhere", at === this.tiers.length - 1 && tier.length === 1);
      row.querySelector('[data-move="tie"]').toggleAttribute("data-nowhere", at === 0 && !tied);
    }
    if (this.list.contains(focused)) focused.focus(); // moving a row takes the focus from it
  }

  onClick(event) {
    const button = event.target.closest("[data-move]");
    if (button) this.move(Number(button.closest(".row").dataset.place), button.dataset.move);
  }

  onPointer(event) {
    const row = event.target.closest(".row");
    const grip = event.target.closest(".grip");
    if (!row || event.button || event.target.closest("button, input")) return;
    if (event.pointerType !== "mouse" && !grip) return; // a finger scrolls the page, but for the grip
    event.preventDefault();
    const start = event.clientY;
    let aim = null;
    const clear = () => this.rows.forEach((each) => each.classList.remove("before", "after", "onto"));
    const onMove = (moved) => {
      if (!row.classList.contains("dragged") && Math.abs(moved.clientY - start) < 5) return;
      row.classList.add("dragged");
      clear();
      aim = this.aimed(row, moved.clientY);
      if (aim) aim.row.classList.add(aim.side);
      const edge = 60;
      if (moved.clientY < edge) window.scrollBy(0, -12);
      if (moved.clientY > window.innerHeight - edge) window.scrollBy(0, 12);
    };
    const stop = (ended) => {
      row.removeEventListener("pointermove", onMove);
      for (const name of ["pointerup", "pointercancel"]) row.removeEventListener(name, stop);
      document.removeEventListener("keydown", onKey, true);
      clear();
      row.classList.remove("dragged");
      if (ended.type === "pointerup" && aim) this.drop(Number(row.dataset.place), Number(aim.row.dataset.place), aim.side);
    };
    const onKey = (key) => {
      if (key.key !== "Escape") return;
      key.stopPropagation();
      stop(key);
    };
    row.setPointerCapture(event.pointerId);
    row.addEventListener("pointermove", onMove);
    for (const name of ["pointerup", "pointercancel"]) row.addEventListener(name, stop);
    document.addEventListener("keydown", onKey, true);
  }

  // Where a row would fall: on another (a tie), or before or after its tier.
  aimed(row, y) {
    const others = [...this.list.children].filter((each) => each !== row);
    for (const each of others) {
      const box = each.getBoundingClientRect();
      if (y > box.bottom && each !== others.at(-1)) continue;
      const part = (y - box.top) / box.height;
      const place = Number(each.dataset.place);
      const tier = (this.tiers[this.tierOf(place)] || [place]).filter((one) => one !== Number(row.dataset.place));
      if (part < 0.3) return { row: each, side: tier[0] === place ? "before" : "onto" };
      if (part > 0.7) return { row: each, side: tier.at(-1) === place ? "after" : "onto" };
      return { row: each, side: this.tierOf(place) < 0 ? "after" : "onto" };
    }
    return null;
  }
}
