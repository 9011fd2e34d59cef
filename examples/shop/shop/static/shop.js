"use strict";

// Suggest product names while the visitor types; the search works without it.
const search = document.querySelector("input[type=search]");
const list = document.getElementById("suggestions");
let timer = 0;

async function suggest() {
  const text = search.value.trim();
  if (text.length < 2) {
    return;
  }
  const response = await fetch("/api/products?q=" + encodeURIComponent(text));
  if (!response.ok) {
    return;
  }
  const { products } = await response.json();
  list.replaceChildren(...products.map((product) => {
    const option = document.createElement("option");
    option.value = product.name;
    return option;
  }));
}

search.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(suggest, 250);
});
