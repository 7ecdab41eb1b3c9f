"""Pages as a parser and as a browser see them."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from html.parser import HTMLParser

NASTY = '</script><b>&"patients"'


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.open, self.silent = [], "", [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "tags are closed in their order"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def named(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


LISTEN = """<script>const complaints = [];
addEventListener("error", (event) => complaints.push(event.message));
addEventListener("unhandledrejection", (event) => complaints.push(String(event.reason)));</script>"""
ACT = """<script>
const the = (id) => document.getElementById(id);
const place = () => ["x", "y", "z"].map((axis) => Number(the("place-" + axis).value));
const coloured = () => [...document.querySelectorAll(".view canvas")].map((canvas) => {
  const copy = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  [copy.canvas.width, copy.canvas.height] = [canvas.width, canvas.height];
  copy.drawImage(canvas, 0, 0);
  const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
  let n = 0;
  for (let k = 0; k < data.length; k += 4) n += data[k] > data[k + 2] + 40 || data[k + 2] > data[k] + 100;
  return n;
}).reduce((a, b) => a + b);
function act() {
  const seen = {complaints, start: place(), before: coloured(), maps: the("map").length};
  seen.wide = document.documentElement.scrollWidth - innerWidth;
  seen.page = getComputedStyle(document.body).backgroundColor;
  the("slider").value = the("slider").max;
  the("slider").dispatchEvent(new Event("input"));
  seen.after = coloured();
  the("map").selectedIndex = 1;
  the("map").dispatchEvent(new Event("change"));
  seen.threshold = Number(the("threshold").value);
  seen.sorted = [...document.querySelectorAll("table.sortable")].map((table) =>
    [...table.tHead.rows[0].cells].map((heading, column) => [0, 1].map(() => {
      heading.querySelector("button").click();
      return [heading.ariaSort, ...[...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value)];
    })));
  document.querySelector("tr[data-mm] .jump").click();
  seen.asked = document.querySelector("tr[data-mm]").dataset.mm.split(" ").map(Number);
  seen.jumped = place();
  seen.chosen = the("map").selectedIndex;
  const canvas = document.querySelectorAll(".view canvas")[2];
  canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", cancelable: true}));
  seen.moved = place();
  const outcome = document.createElement("pre");
  outcome.id = "outcome";
  outcome.textContent = JSON.stringify(seen);
  document.body.append(outcome);
}
(function wait() { the("viewer").hidden ? setTimeout(wait, 20) : setTimeout(act, 100); })();
</script>"""
TURN = """<script>
const the = (id) => document.getElementById(id);
const pixels = () => {
  const copy = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  [copy.canvas.width, copy.canvas.height] = [the("turner-canvas").width, the("turner-canvas").height];
  copy.drawImage(the("turner-canvas"), 0, 0);
  return copy.getImageData(0, 0, copy.canvas.width, copy.canvas.height).data;
};
const count = (test) => {
  const data = pixels();
  let n = 0;
  for (let k = 0; k < data.length; k += 4) n += data[k + 3] > 0 && test(data[k], data[k + 1], data[k + 2]);
  return n;
};
const red = () => count((r, g, b) => r > b + 40), blue = () => count((r, g, b) => b > r + 40);
function act() {
  const seen = {complaints, drawn: !the("turner").hidden, fallback: !the("no-webgl").hidden};
  seen.wide = document.documentElement.scrollWidth - innerWidth;
  const key = (name) => the("turner-canvas").dispatchEvent(new KeyboardEvent("keydown", {key: name, cancelable: true}));
  if (seen.drawn) {
    const side = (name) => document.querySelector(`.sides [data-side=${name}]`).click();
    seen.maps = the("turner-map").length;
    seen.readout = the("turner-readout").innerText;
    side("left");
    seen.left = [red(), blue()];
    seen.grey = count((r, g, b) => r === g && g === b);
    side("right");
    seen.right = [red(), blue()];
    const before = pixels().join();
    key("ArrowLeft");
    seen.turned = pixels().join() !== before;
    key("ArrowRight");
    seen.back = pixels().join() === before;
    key("+");
    seen.larger = count(() => true);
    key("-");
    seen.smaller = count(() => true);
    the("turner-slider").value = the("turner-slider").max;
    the("turner-slider").dispatchEvent(new Event("input"));
    seen.high = [red(), blue()];
    the("turner-map").selectedIndex = 1;
    the("turner-map").dispatchEvent(new Event("change"));
    seen.threshold = Number(the("turner-threshold").value);
    the("turner-map").selectedIndex = 0;
    the("turner-map").dispatchEvent(new Event("change"));
    seen.kept = Number(the("turner-threshold").value) === Number(Number(the("turner-slider").max).toPrecision(5));
    const rows = [...document.querySelectorAll("tr[data-element]")];
    seen.jumped = rows.map((row) => {
      row.querySelector(".jump").click();
      return row.innerText.includes(the("turner-readout").querySelector("b").innerText);
    });
  }
  const outcome = document.createElement("pre");
  outcome.id = "outcome";
  outcome.textContent = JSON.stringify(seen);
  document.body.append(outcome);
}
(function wait() { the("turner").hidden && the("no-webgl").hidden ? setTimeout(wait, 20) : setTimeout(act, 200); })();
</script>"""
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=8000 --dump-dom"
)


def browse(page, folder, *flags, act=ACT):
    """Open a page in Chromium and act on it: what was seen, and what the browser logged."""
    target = folder / "page.html"
    target.write_text(page.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{act}</body>", 1))
    command = ["chromium", *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", *flags, target.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (seen,) = re.findall(r'<pre id="outcome">(.*?)</pre>', run.stdout, re.DOTALL)
    return json.loads(unescape(seen)), run.stderr
