// Shows the responses of one use case and one outcome, a few at a time. The
// choice stands in the address, so that a link keeps it.
(() => {
  const box = document.getElementById("filters");
  if (!box) return;
  const rows = [...document.querySelectorAll(".response")];
  const choices = [...box.querySelectorAll("select")];
  const more = document.getElementById("more");
  const count = document.getElementById("count");
  const chosen = document.getElementById("chosen");
  const first = Number(box.dataset.first);
  let all = false;

  const fits = (row, { name, value }) =>
    !value || row.dataset[name].split(name === "won" ? " " : "\n").includes(value);

  const show = () => {
    const found = rows.filter((row) => choices.every((choice) => fits(row, choice)));
    const shown = new Set(all ? found : found.slice(0, first));
    rows.forEach((row) => { row.hidden = !shown.has(row); });
    count.textContent = `${shown.size} of ${found.length} that fit (${rows.length} are on this page)`;
    // In print the menus are not there, but what was chosen in them is.
    chosen.textContent = choices.filter((c) => c.value).map((c) =>
      `${c.name === "won" ? "who won" : "use case"}: ${c.selectedOptions[0].textContent}`).join("; ");
    more.hidden = shown.size === found.length;
    more.textContent = `show all ${found.length}`;
  };

  const remember = () => {
    const chosen = choices.filter((c) => c.value).map((c) => [c.name, c.value]);
    const words = new URLSearchParams(chosen).toString();
    history.replaceState(null, "", words ? `#samples?${words}` : "#samples");
  };

  const recall = () => {
    const [place, words] = location.hash.split("?");
    if (place !== "#samples") return;
    const wanted = new URLSearchParams(words || "");
    choices.forEach((choice) => {
      const value = wanted.get(choice.name) || "";
      choice.value = [...choice.options].some((o) => o.value === value) ? value : "";
    });
    if (words) document.getElementById("samples").scrollIntoView();
  };

  choices.forEach((choice) => choice.addEventListener("change", () => { all = false; show(); remember(); }));
  more.addEventListener("click", () => { all = true; show(); });
  window.addEventListener("hashchange", () => { recall(); show(); });
  box.hidden = false;
  recall();
  show();
})();
