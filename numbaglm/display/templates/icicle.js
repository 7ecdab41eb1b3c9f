(() => {
  const icicle = document.getElementById("icicle");
  if (!icicle) return;
  const pieces = [...icicle.querySelectorAll("rect[data-parent]")];
  const mark = document.getElementById("icicle-mark"), jump = document.getElementById("icicle-jump");
  const side = (piece, name) => Number(piece.getAttribute(name));
  const middle = (piece) => side(piece, "x") + side(piece, "width") / 2;
  let here = null;

  function choose(piece) {
    here = piece;
    for (const name of ["x", "y", "width", "height"]) mark.setAttribute(name, piece.getAttribute(name));
    document.getElementById("icicle-told").textContent = piece.querySelector("title").textContent;
    const { mm, element, threshold } = piece.dataset;
    const viewer = document.getElementById(mm ? "viewer" : element ? "turner" : "");
    jump.hidden = !viewer || viewer.hidden;
    if (jump.hidden) return;
    jump.href = `#${viewer.id}`;
    // Viewers show the cluster: the map that it is of, at its threshold, with the mark on its peak.
    document.dispatchEvent(new CustomEvent("cluster", { detail: { mm, element, threshold: Number(threshold) } }));
  }

  const widest = (some) => some.reduce((best, one) => (!best || side(one, "width") > side(best, "width") ? one : best), null);
  const beside = (by) => {
    const row = side(here, "y") + side(here, "height") - 0.5;
    const far = (one) => by * (middle(one) - middle(here));
    const there = pieces.filter((one) => side(one, "y") < row && side(one, "y") + side(one, "height") > row && far(one) > 0);
    return there.sort((a, b) => far(a) - far(b))[0];
  };
  const moves = {
    ArrowUp: () => widest(pieces.filter((one) => pieces[one.dataset.parent] === here)),
    ArrowDown: () => pieces[here.dataset.parent],
    ArrowLeft: () => beside(-1),
    ArrowRight: () => beside(1),
  };
  icicle.addEventListener("click", (event) => {
    const piece = event.target.closest("rect[data-parent]");
    if (piece) choose(piece);
  });
  icicle.addEventListener("keydown", (event) => {
    if (!(event.key in moves) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const next = here ? moves[event.key]() : pieces[0];
    if (next) choose(next);
  });
  icicle.setAttribute("tabindex", "0");
  icicle.classList.add("live");
  document.getElementById("icicle-hint").hidden = false;
})();
