(() => {
  "use strict";
  const form = document.querySelector("form.filter");
  if (!form) return;
  const all = [...document.querySelectorAll("#findings > article")];
  const text = new Map(all.map((a) => [a, a.textContent.toLowerCase()]));
  const rank = { possible: 1, likely: 2, certain: 3 };
  const out = form.querySelector("output");
  const apply = () => {
    const d = new FormData(form);
    const words = String(d.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
    const severities = new Set(d.getAll("severity"));
    const sure = rank[d.get("sure")] || 0;
    let n = 0;
    for (const a of all) {
      const show = severities.has(a.dataset.severity) && (!d.get("rule") || d.get("rule") === a.dataset.rule) &&
        (rank[a.dataset.sure] || 0) >= sure && words.every((w) => text.get(a).includes(w));
      a.hidden = !show;
      if (show) n++;
    }
    out.textContent = (n === all.length ? `${n}` : `${n} of ${all.length}`) + (all.length === 1 ? " finding" : " findings");
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (e) => e.preventDefault());
  window.addEventListener("beforeprint", () => document.querySelectorAll("#findings details").forEach((d) => { d.open = true; }));
  form.hidden = false;
  apply();
})();
