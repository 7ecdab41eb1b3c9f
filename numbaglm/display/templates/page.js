"use strict";
(() => {
  // Tables: a heading sorts, first the way that shows what matters, then the other way.
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        for (const other of headings) other.setAttribute("aria-sort", "none");
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.cells[column].dataset.value;
        const compare = (a, b) => {
          const difference = Number(key(a)) - Number(key(b));
          return Number.isNaN(difference) ? key(a).localeCompare(key(b)) : difference;
        };
        const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? compare(a, b) : compare(b, a)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  // The methods: a page from a disk has no clipboard everywhere, and selects the text instead.
  const copy = document.getElementById("copy");
  if (copy) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const paragraph = document.getElementById("paragraph"), status = document.getElementById("copied");
      try {
        await navigator.clipboard.writeText(paragraph.innerText);
        status.textContent = "Copied.";
      } catch {
        getSelection().selectAllChildren(paragraph);
        status.textContent = "Selected: press Ctrl+C or \u2318C.";
      }
    });
  }

  // In a notebook's frame a link to a section would be one into the notebook.
  if (location.protocol === "about:") {
    document.addEventListener("click", (event) => {
      const link = event.target.closest('a[href^="#"]');
      if (!link) return;
      event.preventDefault();
      document.getElementById(link.getAttribute("href").slice(1)).scrollIntoView();
    });
  }
})();
