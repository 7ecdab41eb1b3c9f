(() => {
  const $ = (id) => document.getElementById(id);
  const minus = (text) => text.replace(/-/g, "\u2212");
  const short = (value) => minus(Number(value.toPrecision(4)).toString());

  if (!("DecompressionStream" in window)) {
    $("too-old").hidden = false;
    return;
  }
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
  const GREY = [222, 222, 222], EDGE = [140, 140, 140];
  let order, map, threshold, place;

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  async function load() {
    const bits = new Uint8Array(await unpack(data.mask));
    order = new Int32Array(data.shape[0] * stride[0]).fill(-1);
    let count = 0;
    for (let k = 0; k < order.length; k++) if (bits[k >> 3] & (128 >> (k & 7))) order[k] = count++;
    for (const one of data.maps) {
      const view = new DataView(await unpack(one.data));
      one.values = new Int16Array(count);
      for (let k = 0; k < count; k++) one.values[k] = view.getInt16(2 * k, true);
      delete one.data;
    }
  }

  const toMm = (index, axis) => data.origin[axis] + index * data.step[axis];
  const toIndex = (mm, axis) =>
    Math.min(data.shape[axis] - 1, Math.max(0, Math.round((mm - data.origin[axis]) / data.step[axis])));
  const end = () => (map.max > threshold ? map.max : 1.25 * threshold || 1);

  function colour(value) {
    const size = map.signed ? Math.abs(value) : value;
    // A voxel that lies at the threshold is in, whatever rounding did to it.
    if (size === 0 || size < threshold - map.unit / 2) return null;
    const stops = value < 0 ? data.cold : data.hot;
    const at = Math.min(1, Math.max(0, (size - threshold) / (end() - threshold))) * (stops.length - 1);
    const k = Math.min(stops.length - 2, Math.floor(at));
    return stops[k].map((low, channel) => low + (at - k) * (stops[k + 1][channel] - low));
  }

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
        const shade = colour(map.values[voxel] * map.unit) || (inner ? GREY : EDGE);
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

  function legend() {
    const bar = $("bar"), context = bar.getContext("2d"), low = map.signed ? -end() : 0;
    const colours = context.createImageData(bar.width, 1);
    for (let k = 0; k < bar.width; k++) {
      const value = low + ((k + 0.5) / bar.width) * (end() - low);
      colours.data.set([...(colour(value) || GREY), 255], 4 * k);
    }
    context.putImageData(colours, 0, 0);
    // A mark has no place where its text would run into that of an end, or into its own of the other sign.
    const pixels = (span) => (span / (end() - low)) * bar.clientWidth;
    const clear = (mark) => pixels(end() - mark) > 66 && pixels(mark) > (map.signed ? 24 : 40);
    const inner = [threshold].filter(clear);
    const marks = [low, ...(map.signed ? inner.map((mark) => -mark) : []), ...inner, end()];
    $("ticks").replaceChildren(
      ...marks.map((mark) => {
        const tick = document.createElement("span");
        tick.textContent = minus(Number(mark.toPrecision(3)).toString());
        tick.style.left = `${(100 * (mark - low)) / (end() - low)}%`;
        return tick;
      }),
    );
  }

  function readout() {
    const voxel = order[place[0] * stride[0] + place[1] * stride[1] + place[2]];
    const parts = voxel < 0 ? [["outside the mask", ""]] : data.maps.map((one) => {
      const value = one.values[voxel] * one.unit;
      if (!one.logp) return [one.label, `= ${short(value)}`];
      return [one.label.replace("\u2212log10 ", ""), `: ${Number(Math.pow(10, -value).toPrecision(3))}`];
    });
    $("readout").replaceChildren(
      ...parts.map(([label, value]) => {
        const part = document.createElement("span"), name = document.createElement("b");
        name.textContent = label;
        part.append(name, value.startsWith(":") ? value : ` ${value}`);
        return part;
      }),
    );
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

  function cut(value) {
    threshold = Math.max(0, value);
    legend();
    show();
  }

  function choose(n) {
    map = data.maps[n];
    $("slider").max = Math.max(map.max, 1.25 * map.threshold);
    $("slider").value = map.threshold;
    $("threshold").value = Number(map.threshold.toPrecision(5));
    cut(map.threshold);
  }

  function listen() {
    $("map").append(...data.maps.map((one, n) => new Option(one.label, n)));
    $("map").addEventListener("change", (event) => choose(Number(event.target.value)));
    $("slider").addEventListener("input", (event) => {
      $("threshold").value = Number(Number(event.target.value).toPrecision(4));
      cut(Number(event.target.value));
    });
    $("threshold").addEventListener("input", (event) => {
      if (!event.target.validity.valid || event.target.value === "") return;
      $("slider").value = event.target.value;
      cut(Number(event.target.value));
    });
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
    document.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-mm]");
      if (!row) return;
      document.querySelector("tr.here")?.classList.remove("here");
      row.classList.add("here");
      if (row.dataset.map && data.maps[row.dataset.map] !== map) {
        $("map").value = row.dataset.map;
        choose(Number(row.dataset.map));
      }
      go(row.dataset.mm.split(" ").map(Number));
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      $("viewer").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
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
    listen();
    choose(0);
  });
})();
