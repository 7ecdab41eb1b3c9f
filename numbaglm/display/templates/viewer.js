(() => {
  if (!shared.able) return;
  const $ = (id) => document.getElementById(id);
  const { short, GREY, EDGE } = shared;
  const data = JSON.parse($("volumes").textContent);
  const views = [...document.querySelectorAll(".view")].map((figure, n) => ({
    canvas: figure.querySelector("canvas"),
    caption: figure.querySelector("figcaption"),
    axis: n,
    right: n === 0 ? 1 : 0,
    up: n === 2 ? 1 : 2,
    image: document.createElement("canvas"),
    under: document.createElement("canvas"),
  }));
  const stride = [data.shape[1] * data.shape[2], data.shape[2], 1];
  let order, map, threshold, place, anatomy = null, zoom = 1, opacity = 1;
  // The edges of the box that is seen, in mm: of the maps and of the anatomy; and of the window on it.
  const grids = [data, ...(data.anatomy ? [data.anatomy] : [])];
  const low = [0, 1, 2].map((axis) => Math.min(...grids.map((one) => one.origin[axis] - one.step[axis] / 2)));
  const high = [0, 1, 2].map((axis) =>
    Math.max(...grids.map((one) => one.origin[axis] + (one.shape[axis] - 0.5) * one.step[axis])));
  const from = [...low], span = (axis) => (high[axis] - low[axis]) / zoom;

  async function load() {
    const bits = new Uint8Array(await shared.unpack(data.mask));
    order = new Int32Array(data.shape[0] * stride[0]).fill(-1);
    let count = 0;
    for (let k = 0; k < order.length; k++) if (bits[k >> 3] & (128 >> (k & 7))) order[k] = count++;
    await shared.unpackMaps(data.maps, count);
    if (data.anatomy) anatomy = new Uint8Array(await shared.unpack(data.anatomy.data));
  }

  const toMm = (index, axis) => data.origin[axis] + index * data.step[axis];
  const toIndex = (mm, axis) =>
    Math.min(data.shape[axis] - 1, Math.max(0, Math.round((mm - data.origin[axis]) / data.step[axis])));
  // Keep the crosshair in the window; in the middle of it where its size changes.
  function look(resized) {
    for (let axis = 0; axis < 3; axis++) {
      const mm = toMm(place[axis], axis), outside = mm < from[axis] || mm > from[axis] + span(axis);
      if (resized || outside) from[axis] = mm - span(axis) / 2;
      from[axis] = Math.min(high[axis] - span(axis), Math.max(low[axis], from[axis]));
    }
  }

  function paintAnatomy(view) {
    const { shape, origin, step } = data.anatomy, width = shape[view.right], height = shape[view.up];
    const strides = [shape[1] * shape[2], shape[2], 1];
    view.under.width = width;
    view.under.height = height;
    const context = view.under.getContext("2d"), pixels = context.createImageData(width, height);
    const k = Math.round((toMm(place[view.axis], view.axis) - origin[view.axis]) / step[view.axis]);
    for (let v = 0; v < height && k >= 0 && k < shape[view.axis]; v++) {
      for (let h = 0; h < width; h++) {
        const shade = anatomy[k * strides[view.axis] + h * strides[view.right] + v * strides[view.up]];
        pixels.data.set([shade, shade, shade, shade > 10 ? 255 : 0], 4 * ((height - 1 - v) * width + h));
      }
    }
    context.putImageData(pixels, 0, 0);
  }

  function paint(view) {
    if (anatomy) paintAnatomy(view);
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
        const ground = anatomy ? null : inner ? GREY : EDGE;
        const shade = shared.colour(data, map, threshold, map.values[voxel] * map.unit) || ground;
        if (shade) pixels.data.set([...shade, 255], 4 * ((height - 1 - v) * width + h));
      }
    }
    context.putImageData(pixels, 0, 0);
  }

  function draw(view) {
    const canvas = view.canvas, scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(canvas.clientHeight * scale);
    const context = canvas.getContext("2d");
    const across = canvas.width / span(view.right), upward = canvas.height / span(view.up);
    const lay = (image, { shape, origin, step }) => {
      const left = (origin[view.right] - step[view.right] / 2 - from[view.right]) * across;
      const top = canvas.height - (origin[view.up] + (shape[view.up] - 0.5) * step[view.up] - from[view.up]) * upward;
      const width = shape[view.right] * step[view.right] * across;
      context.drawImage(image, left, top, width, shape[view.up] * step[view.up] * upward);
    };
    if (anatomy) lay(view.under, data.anatomy);
    context.imageSmoothingEnabled = false;
    context.globalAlpha = opacity;
    lay(view.image, data);
    context.globalAlpha = 1;
    const x = (toMm(place[view.right], view.right) - from[view.right]) * across;
    const y = canvas.height - (toMm(place[view.up], view.up) - from[view.up]) * upward;
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
    look(false);
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
    const grow = (by) => {
      zoom = Math.min(8, Math.max(1, by));
      $("zoom").value = zoom;
      look(true);
      views.forEach(draw);
    };
    $("zoom").addEventListener("input", (event) => grow(Number(event.target.value)));
    $("opacity").addEventListener("input", (event) => {
      opacity = Number(event.target.value);
      views.forEach(draw);
    });
    for (const view of views) {
      const point = (event) => {
        const box = view.canvas.getBoundingClientRect();
        const right = from[view.right] + ((event.clientX - box.left) / box.width) * span(view.right);
        const up = from[view.up] + (1 - (event.clientY - box.top) / box.height) * span(view.up);
        place[view.right] = toIndex(right, view.right);
        place[view.up] = toIndex(up, view.up);
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
        if (["+", "=", "-"].includes(event.key) && !event.ctrlKey && !event.metaKey) {
          event.preventDefault();
          grow(event.key === "-" ? zoom / 1.25 : zoom * 1.25);
        }
        if (!moves.has(event.key)) return;
        event.preventDefault();
        step(...moves.get(event.key));
      });
    }
    shared.rows("tr[data-mm]", $("viewer"), (row) => {
      if (row.dataset.map && data.maps[row.dataset.map] !== map) choose(Number(row.dataset.map));
      go(row.dataset.mm.split(" ").map(Number));
    });
    document.addEventListener("cluster", ({ detail }) => {
      if (!detail.mm) return;
      choose(0, detail.threshold);
      go(detail.mm.split(" ").map(Number));
    });
    new ResizeObserver(() => {
      views.forEach(draw);
      legend();
    }).observe($("viewer"));
  }

  load().then(() => {
    const length = (axis) => high[axis] - low[axis];
    document.querySelector(".views").style.gridTemplateColumns =
      views.map((view) => `minmax(0, ${length(view.right)}fr)`).join(" ");
    for (const view of views) view.canvas.style.aspectRatio = `${length(view.right)} / ${length(view.up)}`;
    $("viewer").hidden = false;
    place = data.start.map(toIndex);
    const choose = shared.controls($("map"), $("slider"), $("threshold"), $("printed"), data.maps, (chosen, value) => {
      [map, threshold] = [chosen, value];
      legend();
      show();
    });
    listen(choose);
    choose(0);
  });
})();
