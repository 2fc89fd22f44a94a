// Put into a copy of the page before anything else: looks at the page when it
// is loaded, and tells the page around it what it saw, as JSON.
(() => {
  const seen = { errors: [] };
  window.addEventListener("error", (e) => seen.errors.push(String(e.message)));
  document.addEventListener("securitypolicyviolation", (e) =>
    seen.errors.push(`asked for ${e.blockedURI}`));
  const complain = console.error;
  console.error = (...said) => { seen.errors.push(said.join(" ")); complain(...said); };

  const rgb = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = rgb(color).slice(0, 3).map((x) => {
      const share = x / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      const parts = rgb(color);
      if (parts.length < 4 || parts[3] > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const contrast = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const visible = (e) => e.getClientRects().length > 0;
  const texts = () => [...document.querySelectorAll("body *")].filter(
    (e) => visible(e) && !["SCRIPT", "STYLE"].includes(e.tagName) &&
      [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
  const scale = (e) => {
    if (!e.ownerSVGElement) return 1;
    const { a, b } = e.getScreenCTM();  // of turned text, too
    return Math.hypot(a, b);
  };
  const meet = (a, b) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;

  const pictures = () => {
    const wrong = [];
    for (const svg of document.querySelectorAll("svg")) {
      const name = svg.getAttribute("aria-label");
      const box = svg.getBoundingClientRect();
      const words = [...svg.querySelectorAll("text")].map(
        (t) => [t.textContent, t.getBoundingClientRect()]);
      const marks = [...svg.querySelectorAll("use")].map((u) => u.getBoundingClientRect())
        .filter((r) => r.width > 3 && r.height > 3);
      words.forEach(([text, at], n) => {
        if (at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 ||
            at.bottom > box.bottom + 1) wrong.push(`${name}: "${text}" is cut`);
        words.slice(n + 1).forEach(([other, there]) => {
          if (meet(at, there)) wrong.push(`${name}: "${text}" over "${other}"`);
        });
        if (marks.some((mark) => meet(at, mark))) wrong.push(`${name}: "${text}" over a point`);
      });
    }
    return wrong;
  };

  const rows = () => [...document.querySelectorAll(".response")].filter(visible).length;
  const choose = (name, value) => {
    const choice = document.querySelector(`select[name=${name}]`);
    choice.value = value;
    choice.dispatchEvent(new Event("change"));
  };
  const filters = () => {
    const counts = { start: rows(), use: new URLSearchParams(location.hash.split("?")[1]).get("use") };
    if (counts.use || !document.getElementById("filters")) return counts;
    choose("use", "chat"); counts.chat = rows();
    choose("won", "ppo_ptx>sft"); counts.won = rows();
    counts.chosen = document.getElementById("chosen").textContent;
    counts.hash = location.hash;
    choose("use", ""); choose("won", "sft>ppo_ptx"); counts.lost = rows();
    choose("won", "sft=ppo_ptx"); counts.alike = rows();
    document.getElementById("more").click(); counts.more = rows();
    choose("won", ""); counts.first = rows();
    document.getElementById("more").click(); counts.all = rows();
    return counts;
  };

  window.addEventListener("load", () => {
    const root = document.documentElement;
    const all = texts();
    seen.width = innerWidth;
    seen.overflow = root.scrollWidth - innerWidth;
    seen.outside = [...document.querySelectorAll("body *:not(.wide *):not(svg *)")]
      .filter((e) => visible(e) && e.getBoundingClientRect().right > innerWidth + 1)
      .map((e) => `${e.tagName}: ${e.textContent.trim().slice(0, 40)}`);
    seen.cut = [...document.querySelectorAll(".wide")]
      .filter((e) => visible(e) && e.scrollWidth > e.clientWidth)
      .map((e) => `${e.getAttribute("aria-label")}: ${e.scrollWidth} in ${e.clientWidth}, ${getComputedStyle(e).backgroundImage}`);
    seen.page = luminance(behind(document.body));
    seen.texts = all.length;
    seen.faint = [...new Set(all.filter((e) => !e.hasAttribute("aria-hidden")).map((e) => [
      contrast(e.ownerSVGElement ? getComputedStyle(e).fill : getComputedStyle(e).color, behind(e)),
      `${e.tagName}: ${e.textContent.slice(0, 40)}`]).filter(([c]) => c < 4.5).map(String))];
    seen.small = [...new Set(all.map((e) => [parseFloat(getComputedStyle(e).fontSize) * scale(e),
      `${e.tagName}: ${e.textContent.slice(0, 40)}`]).filter(([s]) => s < 10.5).map(String))];
    seen.pictures = pictures();
    seen.requests = performance.getEntriesByType("resource").length;
    seen.filters = filters();
    parent.postMessage(JSON.stringify(seen), "*");
  });
})();
