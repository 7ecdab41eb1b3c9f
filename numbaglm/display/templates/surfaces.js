(() => {
  if (!shared.able) return;
  const $ = (id) => document.getElementById(`turner${id}`);
  const data = JSON.parse(document.getElementById("surfaces").textContent);
  const canvas = $("-canvas"), marks = $("-marks");
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true, preserveDrawingBuffer: true });
  if (!gl) {
    document.getElementById("no-webgl").hidden = false;
    return;
  }
  const GAP = 2;
  const SIDES = { left: [-90, 0], right: [90, 0], front: [180, 0], back: [0, 0], above: [0, 89.9], below: [180, -89.9] };
  const VERTEX = `#version 300 es
    in vec3 position; in vec3 normal; in float grey; in vec4 colour;
    uniform mat3 turn; uniform vec3 centre; uniform vec3 scale;
    out float light; out float ground; out vec4 over;
    void main() {
      vec3 p = turn * (position - centre);
      gl_Position = vec4(p.xy * scale.xy, -p.z * scale.z, 1.0);
      light = abs((turn * normal).z); ground = grey; over = colour;
    }`;
  // Colours are multiplied with their opacity: between a vertex that is shown and one that is not lies a clean edge.
  const FRAGMENT = `#version 300 es
    precision mediump float;
    in float light; in float ground; in vec4 over;
    out vec4 seen;
    void main() {
      seen = over.a > 0.5 ? vec4(over.rgb / over.a * (0.68 + 0.32 * light), 1.0)
                          : vec4(vec3(ground) * (0.42 + 0.58 * light), 1.0);
    }`;
  let program, map, threshold, choose, yaw = -90, pitch = 0, zoom = 1, marked = null, shown = "both";

  function compile() {
    program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  }

  function fill(name, size, kind, values, normalised, changes) {
    const buffer = gl.createBuffer(), place = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, changes ? gl.DYNAMIC_DRAW : gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, kind, normalised, 0, 0);
    return buffer;
  }

  // Bytes come apart, the lowest of all numbers first, and each number is the difference from the one before.
  function added(buffer, width) {
    const bytes = new Uint8Array(buffer), n = bytes.length / width, found = new Uint32Array(n);
    for (let k = 0; k < n; k++) for (let b = 0; b < width; b++) found[k] += bytes[b * n + k] * 2 ** (8 * b);
    return found;
  }

  async function load() {
    let offset = 0;
    for (const one of data.surfaces) {
      const steps = added(await shared.unpack(one.vertices), 2);
      one.xyz = new Float32Array(3 * one.n);
      for (let axis = 0; axis < 3; axis++) {
        for (let k = 0, at = 0; k < one.n; k++) {
          at = (at + steps[axis * one.n + k]) & 65535;
          one.xyz[3 * k + axis] = one.low[axis] + at * one.step[axis];
        }
      }
      one.faces = added(await shared.unpack(one.faces), 4);
      for (let k = 1; k < one.faces.length; k++) one.faces[k] += one.faces[k - 1];
      one.grey = new Uint8Array(await shared.unpack(one.grey));
      const bits = new Uint8Array(await shared.unpack(one.inside));
      one.element = new Int32Array(one.n).fill(-1);
      one.offset = offset;
      one.vertices = [];
      for (let k = 0; k < one.n; k++) {
        if (!(bits[k >> 3] & (128 >> (k & 7)))) continue;
        one.element[k] = one.vertices.length;
        one.vertices.push(k);
      }
      offset += one.vertices.length;
      one.colour = new Uint8Array(4 * one.n);
      one.low = [0, 1, 2].map((axis) => one.xyz.reduce((low, x, k) => (k % 3 === axis ? Math.min(low, x) : low), Infinity));
      one.high = [0, 1, 2].map((axis) => one.xyz.reduce((high, x, k) => (k % 3 === axis ? Math.max(high, x) : high), -Infinity));
    }
    await shared.unpackMaps(data.maps, offset);
    const left = data.surfaces.find((one) => one.side === "left"), right = data.surfaces.find((one) => one.side === "right");
    if (left && right && left.high[0] > right.low[0] - GAP) {
      // Inflated hemispheres lie in each other: they are moved apart, and keep their mm.
      left.moved = -GAP - left.high[0];
      right.moved = GAP - right.low[0];
    }
    for (const one of data.surfaces) {
      one.moved ??= 0;
      one.low[0] += one.moved;
      one.high[0] += one.moved;
      turnOutward(one);
    }
  }

  function turnOutward(one) {
    const { xyz, faces } = one, normal = new Float32Array(xyz.length);
    const middle = [0, 1, 2].map((axis) => (one.low[axis] + one.high[axis]) / 2 - (axis ? 0 : one.moved));
    let volume = 0;
    for (let k = 0; k < faces.length; k += 3) {
      const [a, b, c] = [faces[k], faces[k + 1], faces[k + 2]].map((v) => 3 * v);
      const u = [0, 1, 2].map((i) => xyz[b + i] - xyz[a + i]), v = [0, 1, 2].map((i) => xyz[c + i] - xyz[a + i]);
      const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (let i = 0; i < 3; i++) {
        volume += n[i] * (xyz[a + i] - middle[i]);
        for (const corner of [a, b, c]) normal[corner + i] += n[i];
      }
    }
    for (let k = 0; k < normal.length; k += 3) {
      const length = Math.sign(volume || 1) * (Math.hypot(normal[k], normal[k + 1], normal[k + 2]) || 1);
      for (let i = 0; i < 3; i++) normal[k + i] /= length;
    }
    one.normal = normal;
  }

  function upload() {
    compile();
    for (const one of data.surfaces) {
      one.vao = gl.createVertexArray();
      gl.bindVertexArray(one.vao);
      const moved = one.moved ? one.xyz.map((x, k) => (k % 3 ? x : x + one.moved)) : one.xyz;
      fill("position", 3, gl.FLOAT, moved, false);
      fill("normal", 3, gl.FLOAT, one.normal, false);
      fill("grey", 1, gl.UNSIGNED_BYTE, one.grey, true);
      one.buffer = fill("colour", 4, gl.UNSIGNED_BYTE, one.colour, true, true);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, one.faces, gl.STATIC_DRAW);
    }
  }

  const seen = () => data.surfaces.filter((one) => shown === "both" || one.side === shown);

  function camera() {
    const [y, p] = [yaw, pitch].map((angle) => (angle * Math.PI) / 180);
    const right = [Math.cos(y), Math.sin(y), 0];
    const towards = [Math.sin(y) * Math.cos(p), -Math.cos(y) * Math.cos(p), Math.sin(p)];
    const up = [-Math.sin(y) * Math.sin(p), Math.cos(y) * Math.sin(p), Math.cos(p)];
    const surfaces = seen();
    const low = [0, 1, 2].map((axis) => Math.min(...surfaces.map((one) => one.low[axis])));
    const high = [0, 1, 2].map((axis) => Math.max(...surfaces.map((one) => one.high[axis])));
    const centre = low.map((value, axis) => (value + high[axis]) / 2);
    const reach = Math.hypot(...low.map((value, axis) => high[axis] - value)) / 2 || 1;
    const ratio = canvas.width / canvas.height || 1, size = (1.4 * zoom) / reach;
    const scale = ratio > 1 ? [size / ratio, size, 0.9 / reach] : [size, size * ratio, 0.9 / reach];
    return { right, up, towards, centre, scale };
  }

  function project(one, vertex, view) {
    const d = [0, 1, 2].map((axis) => one.xyz[3 * vertex + axis] - view.centre[axis] + (axis ? 0 : one.moved));
    const along = (direction) => d[0] * direction[0] + d[1] * direction[1] + d[2] * direction[2];
    const normal = [0, 1, 2].reduce((sum, axis) => sum + one.normal[3 * vertex + axis] * view.towards[axis], 0);
    const x = ((1 + along(view.right) * view.scale[0]) / 2) * canvas.width;
    const y = ((1 - along(view.up) * view.scale[1]) / 2) * canvas.height;
    return [x, y, along(view.towards), normal];
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    for (const one of [canvas, marks]) {
      const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
      if (one.width !== width || one.height !== height) [one.width, one.height] = [width, height];
    }
    const view = camera();
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.enable(gl.DEPTH_TEST);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.useProgram(program);
    const turn = [0, 1, 2].flatMap((axis) => [view.right[axis], view.up[axis], view.towards[axis]]);
    gl.uniformMatrix3fv(gl.getUniformLocation(program, "turn"), false, turn);
    gl.uniform3fv(gl.getUniformLocation(program, "centre"), view.centre);
    gl.uniform3fv(gl.getUniformLocation(program, "scale"), view.scale);
    for (const one of seen()) {
      gl.bindVertexArray(one.vao);
      gl.drawElements(gl.TRIANGLES, one.faces.length, gl.UNSIGNED_INT, 0);
    }
    const context = marks.getContext("2d");
    context.clearRect(0, 0, marks.width, marks.height);
    if (!marked || !seen().includes(marked[0])) return;
    const [x, y, , facing] = project(...marked, view);
    context.strokeStyle = getComputedStyle(canvas).getPropertyValue("--crosshair");
    context.lineWidth = 2 * ratio;
    context.globalAlpha = facing > 0 ? 1 : 0.3;
    context.beginPath();
    context.arc(x, y, 6 * ratio, 0, 2 * Math.PI);
    context.stroke();
  }

  function paint() {
    for (const one of data.surfaces) {
      one.colour.fill(0);
      one.vertices.forEach((vertex, k) => {
        const shade = shared.colour(data, map, threshold, map.values[one.offset + k] * map.unit);
        if (shade) one.colour.set([...shade.map(Math.round), 255], 4 * vertex);
      });
      gl.bindBuffer(gl.ARRAY_BUFFER, one.buffer);
      gl.bufferSubData(gl.ARRAY_BUFFER, 0, one.colour);
    }
    shared.legend($("-bar"), $("-ticks"), data, map, threshold);
    draw();
  }

  function mark(one, vertex) {
    marked = [one, vertex];
    const mm = [0, 1, 2].map((axis) => shared.minus(one.xyz[3 * vertex + axis].toFixed(0))).join(", ");
    const element = one.element[vertex];
    const parts = element < 0 ? [["not analysed", ""]] : shared.tell(data.maps, one.offset + element);
    // On an inflated mesh mm are none of the head's.
    shared.readout($("-readout"), [[`${one.name} vertex ${vertex}`.trim(), one.own ? `(${mm}) mm` : ""], ...parts]);
    draw();
  }

  // The nearest to the eye of the vertices around a point that face it.
  function pick(event) {
    const box = canvas.getBoundingClientRect(), view = camera();
    const x = ((event.clientX - box.left) / box.width) * canvas.width;
    const y = ((event.clientY - box.top) / box.height) * canvas.height;
    const near = 10 * (window.devicePixelRatio || 1);
    let best = null, front = -Infinity;
    const around = [];
    for (const one of seen()) {
      for (let k = 0; k < one.n; k++) {
        const [u, v, depth, facing] = project(one, k, view), apart = Math.hypot(u - x, v - y);
        if (facing <= 0 || apart > near) continue;
        around.push([apart, depth, one, k]);
        front = Math.max(front, depth);
      }
    }
    for (const found of around) if (front - found[1] < 6 && (!best || found[0] < best[0])) best = found;
    if (best) mark(best[2], best[3]);
  }

  function go(element) {
    const one = data.surfaces.find((two) => element >= two.first && element < two.first + two.vertices.length);
    if (!one) return;
    const vertex = one.vertices[element - one.first], middle = one.low.map((low, axis) => (low + one.high[axis]) / 2);
    const out = [0, 1, 2].map((axis) => one.xyz[3 * vertex + axis] + (axis ? 0 : one.moved) - middle[axis]);
    const length = Math.hypot(...out) || 1;
    const d = out.map((value) => value / length), outward = one.side === "left" ? -1 : 1;
    // From outside, or from within, where the other hemisphere would be in the way; never quite along an edge.
    const within = d[0] * outward < -0.25;
    if (data.surfaces.length > 1) show(within ? one.side : "both");
    const from = [(within ? -outward : outward) * Math.max(0.5, Math.abs(d[0])), d[1], d[2]];
    yaw = (Math.atan2(from[0], -from[1]) * 180) / Math.PI;
    pitch = (Math.atan2(from[2], Math.hypot(from[0], from[1])) * 180) / Math.PI;
    mark(one, vertex);
  }

  function show(which) {
    shown = which;
    $("-shown").value = which;
    draw();
  }

  function turn(by, tilt) {
    yaw += by;
    pitch = Math.max(-89.9, Math.min(89.9, pitch + tilt));
    draw();
  }

  function grow(by) {
    zoom = Math.max(0.5, Math.min(8, zoom * by));
    draw();
  }

  function listen() {
    const both = data.surfaces.length > 1 ? [["both hemispheres", "both"]] : [];
    $("-shown").append(...[...both, ...data.surfaces.map((one) => [one.side, one.side])].map((one) => new Option(...one)));
    if (!both.length) shown = data.surfaces[0].side;
    $("-shown").addEventListener("change", (event) => show(event.target.value));
    for (const button of document.querySelectorAll(".sides button")) {
      button.addEventListener("click", () => {
        [yaw, pitch] = SIDES[button.dataset.side];
        draw();
      });
    }
    let from = null, moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      [from, moved] = [[event.clientX, event.clientY], 0];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from || !(event.buttons & 1)) return;
      const by = [event.clientX - from[0], event.clientY - from[1]];
      moved += Math.abs(by[0]) + Math.abs(by[1]);
      from = [event.clientX, event.clientY];
      turn(-0.5 * by[0], 0.5 * by[1]);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (from && moved < 4) pick(event);
      from = null;
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // the page scrolls
      event.preventDefault();
      grow(Math.exp(-event.deltaY / 300));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const moves = {
        ArrowLeft: () => turn(10, 0), ArrowRight: () => turn(-10, 0),
        ArrowUp: () => turn(0, -10), ArrowDown: () => turn(0, 10),
        "+": () => grow(1.2), "=": () => grow(1.2), "-": () => grow(1 / 1.2),
      };
      if (!(event.key in moves) || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      moves[event.key]();
    });
    canvas.addEventListener("webglcontextrestored", () => {
      upload();
      paint();
    });
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    shared.rows("tr[data-element]", $(""), (row) => go(Number(row.dataset.element)));
    document.addEventListener("cluster", ({ detail }) => {
      if (!detail.element) return;
      choose(0, detail.threshold);
      go(Number(detail.element));
    });
    new ResizeObserver(() => {
      if (!map) return;
      draw();
      shared.legend($("-bar"), $("-ticks"), data, map, threshold);
    }).observe($(""));
  }

  load().then(() => {
    upload();
    $("").hidden = false;
    listen();
    choose = shared.controls($("-map"), $("-slider"), $("-threshold"), $("-printed"), data.maps, (chosen, value) => {
      [map, threshold] = [chosen, value];
      paint();
    });
    choose(0);
    go(data.start);
  });
})();
