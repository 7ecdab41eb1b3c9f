// What both viewers share: maps of int16 with a unit, their colours, and the bar that shows these.
const shared = (() => {
  const minus = (text) => text.replace(/-/g, "\u2212");
  const short = (value) => minus(Number(value.toPrecision(4)).toString());
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const GREY = dark ? [70, 76, 86] : [222, 222, 222];
  const EDGE = dark ? [130, 136, 146] : [140, 140, 140];

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  async function unpackMaps(maps, count) {
    for (const one of maps) {
      const view = new DataView(await unpack(one.data));
      one.values = new Int16Array(count);
      for (let k = 0; k < count; k++) one.values[k] = view.getInt16(2 * k, true);
      delete one.data;
    }
  }

  const end = (map, threshold) => (map.max > threshold ? map.max : 1.25 * threshold || 1);

  function colour(data, map, threshold, value) {
    const size = map.signed ? Math.abs(value) : value;
    // What lies at the threshold is in, whatever rounding did to it.
    if (size === 0 || size < threshold - map.unit / 2) return null;
    const stops = value < 0 ? data.cold : data.hot;
    const at = Math.min(1, Math.max(0, (size - threshold) / (end(map, threshold) - threshold))) * (stops.length - 1);
    const k = Math.min(stops.length - 2, Math.floor(at));
    return stops[k].map((low, channel) => low + (at - k) * (stops[k + 1][channel] - low));
  }

  function legend(bar, ticks, data, map, threshold) {
    const top = end(map, threshold), low = map.signed ? -top : 0, context = bar.getContext("2d");
    const colours = context.createImageData(bar.width, 1);
    for (let k = 0; k < bar.width; k++) {
      const value = low + ((k + 0.5) / bar.width) * (top - low);
      colours.data.set([...(colour(data, map, threshold, value) || GREY), 255], 4 * k);
    }
    context.putImageData(colours, 0, 0);
    // A mark has no place where its text would run into that of an end, or into its own of the other sign.
    const pixels = (span) => (span / (top - low)) * bar.clientWidth;
    const clear = (mark) => pixels(top - mark) > 66 && pixels(mark) > (map.signed ? 24 : 40);
    const inner = [threshold].filter(clear);
    const marks = [low, ...(map.signed ? inner.map((mark) => -mark) : []), ...inner, top];
    ticks.replaceChildren(
      ...marks.map((mark) => {
        const tick = document.createElement("span");
        tick.textContent = minus(Number(mark.toPrecision(3)).toString());
        tick.style.left = `${(100 * (mark - low)) / (top - low)}%`;
        return tick;
      }),
    );
  }

  // What all maps hold at one place: p for -log10 p.
  function tell(maps, at) {
    return maps.map((one) => {
      const value = one.values[at] * one.unit;
      if (!one.logp) return [one.label, `= ${short(value)}`];
      return [one.label.replace("\u2212log10 ", ""), `: ${Number(Math.pow(10, -value).toPrecision(3))}`];
    });
  }

  function readout(output, parts) {
    output.replaceChildren(
      ...parts.map(([label, value]) => {
        const part = document.createElement("span"), name = document.createElement("b");
        name.textContent = label;
        part.append(name, value.startsWith(":") ? value : ` ${value}`);
        return part;
      }),
    );
  }

  // Choice of a map and its threshold. A threshold that was changed stays with its map.
  function controls(select, slider, number, printed, maps, changed) {
    let map = maps[0];
    const show = () => {
      printed.textContent = `${map.label}, threshold ${short(map.chosen)}`;
      changed(map, map.chosen);
    };
    const set = (value) => {
      map.chosen = Math.max(0, value);
      show();
    };
    const choose = (n, value) => {
      map = maps[n];
      map.chosen = value ?? map.chosen ?? map.threshold;
      select.value = n;
      slider.max = Math.max(map.max, 1.25 * map.threshold);
      slider.value = map.chosen;
      number.value = Number(map.chosen.toPrecision(5));
      show();
    };
    select.append(...maps.map((one, n) => new Option(one.label, n)));
    select.addEventListener("change", () => choose(Number(select.value)));
    slider.addEventListener("input", () => {
      number.value = Number(Number(slider.value).toPrecision(4));
      set(Number(slider.value));
    });
    number.addEventListener("input", () => {
      if (!number.validity.valid || number.value === "") return;
      slider.value = number.value;
      set(Number(number.value));
    });
    return choose;
  }

  // Rows of tables that lead into a viewer.
  function rows(selector, viewer, go) {
    document.addEventListener("click", (event) => {
      const row = event.target.closest(selector);
      if (!row) return;
      document.querySelector("tr.here")?.classList.remove("here");
      row.classList.add("here");
      go(row);
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      viewer.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
    });
  }

  const able = "DecompressionStream" in window;
  if (!able) document.getElementById("too-old").hidden = false;
  return { able, minus, short, GREY, EDGE, unpack, unpackMaps, colour, legend, tell, readout, controls, rows };
})();
