(() => {
  if (!shared.able) return;
  const $ = (id) => document.getElementById(id);
  const { short, GREY } = shared;
  const data = JSON.parse($("volumes").textContent);
  const views = [...document.querySelectorAll(".view")].map((figure, n) => ({
    canvas: figure.querySelector("canvas"),
    caption: figure.querySelector("figcaption"),
    axis: n,
    right: n === 0 ? 1 : 0,
    up: n === 2 ? 1 : 2,
    image: document.createElement("canvas"),
  }));
  const stride = [data.shape[1] * data.shape[2], data.shape[2], 1];
  const EDGE = [140, 140, 140];
  let order, map, threshold, place;

  async function load() {
    const bits = new Uint8Array(await shared.unpack(data.mask));
    order = new Int32Array(data.shape[0] * stride[0]).fill(-1);
    let count = 0;
    for (let k = 0; k < order.length; k++) if (bits[k >> 3] & (128 >> (k & 7))) order[k] = count++;
    await shared.unpackMaps(data.maps, count);
  }

  const toMm = (index, axis) => data.origin[axis] + index * data.step[axis];
  const toIndex = (mm, axis) =>
    Math.min(data.shape[axis] - 1, Math.max(0, Math.round((mm - data.origin[axis]) / data.step[axis])));
  function paint(view) {
    const width = data.shape[view.right], height = data.shape[view.up];
    view.image.width = width;
    view.image.height = height;
    const context = view.image.getContext("2d");
    const pixels = context.createImageData(width, height);
    const start = place[view.axis] * stride[view.axis];
    const at = (h, v) =>
      h < 0 || v < 0 || h >= width || v >= height ? -1 : order[start + h * stride[view.right] + v * stride[view.up]];
    for (let v = 0; v < height; v++) {
      for (let h = 0; h < width; h++) {
        const voxel = at(h, v);
        if (voxel < 0) continue;
        const inner = at(h - 1, v) >= 0 && at(h + 1, v) >= 0 && at(h, v - 1) >= 0 && at(h, v + 1) >= 0;
        const shade = shared.colour(data, map, threshold, map.values[voxel] * map.unit) || (inner ? GREY : EDGE);
        pixels.data.set([...shade, 255], 4 * ((height - 1 - v) * width + h));
      }
    }
    context.putImageData(pixels, 0, 0);
  }

  function draw(view) {
    const canvas = view.canvas, scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(canvas.clientHeight * scale);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(view.image, 0, 0, canvas.width, canvas.height);
    const x = ((place[view.right] + 0.5) / data.shape[view.right]) * canvas.width;
    const y = (1 - (place[view.up] + 0.5) / data.shape[view.up]) * canvas.height;
    const gap = 6 * scale;
    context.strokeStyle = getComputedStyle(canvas).getPropertyValue("--crosshair");
    context.lineWidth = scale;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [
      [0, y, x - gap, y], [x + gap, y, canvas.width, y], [x, 0, x, y - gap], [x, y + gap, x, canvas.height],
    ]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
    view.caption.textContent = `${"xyz"[view.axis]} = ${short(toMm(place[view.axis], view.axis))} mm`;
  }

  const legend = () => shared.legend($("bar"), $("ticks"), data, map, threshold);

  function readout() {
    const voxel = order[place[0] * stride[0] + place[1] * stride[1] + place[2]];
    shared.readout($("readout"), voxel < 0 ? [["outside the mask", ""]] : shared.tell(data.maps, voxel));
    ["x", "y", "z"].forEach((axis, n) => {
      const input = $(`place-${axis}`);
      if (document.activeElement !== input) input.value = Number(toMm(place[n], n).toFixed(2));
    });
  }

  function show() {
    for (const view of views) {
      paint(view);
      draw(view);
    }
    readout();
  }

  function go(mm) {
    place = mm.map(toIndex);
    show();
  }

  function step(axis, by) {
    place[axis] = Math.min(data.shape[axis] - 1, Math.max(0, place[axis] + by));
    show();
  }

  function listen(choose) {
    ["x", "y", "z"].forEach((axis, n) => {
      $(`place-${axis}`).addEventListener("change", (event) => {
        if (event.target.value === "") return;
        place[n] = toIndex(Number(event.target.value), n);
        show();
      });
    });
    for (const view of views) {
      const point = (event) => {
        const box = view.canvas.getBoundingClientRect();
        const h = Math.floor(((event.clientX - box.left) / box.width) * data.shape[view.right]);
        const v = Math.floor((1 - (event.clientY - box.top) / box.height) * data.shape[view.up]);
        place[view.right] = Math.min(data.shape[view.right] - 1, Math.max(0, h));
        place[view.up] = Math.min(data.shape[view.up] - 1, Math.max(0, v));
        show();
      };
      view.canvas.addEventListener("pointerdown", (event) => {
        view.canvas.setPointerCapture(event.pointerId);
        point(event);
      });
      view.canvas.addEventListener("pointermove", (event) => {
        if (event.buttons & 1) point(event);
      });
      view.canvas.addEventListener("keydown", (event) => {
        const moves = new Map([
          ["ArrowLeft", [view.right, -1]], ["ArrowRight", [view.right, 1]],
          ["ArrowDown", [view.up, -1]], ["ArrowUp", [view.up, 1]],
          ["PageDown", [view.axis, -1]], ["PageUp", [view.axis, 1]],
        ]);
        if (!moves.has(event.key)) return;
        event.preventDefault();
        step(...moves.get(event.key));
      });
    }
    shared.rows("tr[data-mm]", $("viewer"), (row) => {
      if (row.dataset.map && data.maps[row.dataset.map] !== map) choose(Number(row.dataset.map));
      go(row.dataset.mm.split(" ").map(Number));
    });
    new ResizeObserver(() => {
      views.forEach(draw);
      legend();
    }).observe($("viewer"));
  }

  load().then(() => {
    const length = (axis) => data.shape[axis] * data.step[axis];
    document.querySelector(".views").style.gridTemplateColumns =
      views.map((view) => `minmax(0, ${length(view.right)}fr)`).join(" ");
    for (const view of views) view.canvas.style.aspectRatio = `${length(view.right)} / ${length(view.up)}`;
    $("viewer").hidden = false;
    place = data.start.map(toIndex);
    const choose = shared.controls($("map"), $("slider"), $("threshold"), data.maps, (chosen, value) => {
      [map, threshold] = [chosen, value];
      legend();
      show();
    });
    listen(choose);
    choose(0);
  });
})();
