// In a table of many columns each cell knows its heading: on a narrow screen a row becomes a list.
for (const table of document.querySelectorAll("article table.docutils")) {
  const headings = [...table.querySelectorAll("thead th")].map((each) => each.textContent.trim());
  if (headings.length < 3) continue;
  table.classList.add("many-columns");
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, index) => { cell.dataset.heading = headings[index]; });
  }
}

// A button in each block of code that copies it: only where the browser lets a page do so.
if (navigator.clipboard) {
  for (const block of document.querySelectorAll("div.highlight")) {
    const button = document.createElement("button");
    button.className = "copy";
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("pre").textContent.trimEnd());
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  }
}
