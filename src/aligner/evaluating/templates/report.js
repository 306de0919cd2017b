"use strict";
// Sorts and filters the examples; without it they all stand there, broken ones first.
(() => {
  const list = document.getElementById("cases");
  const form = document.getElementById("choose");
  const seen = document.getElementById("seen");
  const all = Array.from(list.children);
  const words = all.map((one) => one.textContent.toLowerCase());
  const by = (name, sign) => (a, b) => sign * (Number(a.dataset[name]) - Number(b.dataset[name]));
  const orders = { worst: by("worst", 1), best: by("best", 1), largest: by("size", -1), smallest: by("size", 1) };

  function update() {
    const given = Object.fromEntries(new FormData(form));
    const text = given.text.trim().toLowerCase();
    const fits = (one, i) =>
      ["outcome", "upstream", "task", "category"].every((name) => !given[name] || one.dataset[name] === given[name]) &&
      words[i].includes(text);
    let count = 0;
    all.forEach((one, i) => {
      one.hidden = !fits(one, i);
      if (!one.hidden) count += 1;
    });
    list.replaceChildren(...all.slice().sort(orders[given.order]));
    seen.textContent = `${count} of ${all.length} shown`;
  }

  form.hidden = false;
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
