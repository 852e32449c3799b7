"use strict";

// The value under the pointer, read back from the drawing: every chart carries its axes' domains.
function pointers() {
  for (const chart of document.querySelectorAll("svg.chart")) {
    const [x0, x1] = chart.dataset.x.split(" ").map(Number);
    const [y0, y1] = chart.dataset.y.split(" ").map(Number);
    const [left, top, right, bottom] = chart.dataset.plot.split(" ").map(Number);
    const names = chart.dataset.names ? chart.dataset.names.split("|") : null;
    const shares = "shares" in chart.dataset;
    const cursor = chart.querySelector(".cursor");
    const legend = chart.parentElement.querySelector(".legend");
    const entries = [...legend.querySelectorAll("b")];
    const title = chart.parentElement.querySelector("figcaption");
    const heading = title.textContent;
    const drawn = [...chart.querySelectorAll(".line")];
    const lines = drawn.map((line) =>
      line.getAttribute("points").split(" ").map((pair) => pair.split(",").map(Number)));
    // Marks that no line joins say nothing of what lies between them.
    const apart = drawn.map((line) => line.classList.contains("apart"));

    const value = (y) => y0 + (bottom - y) / (bottom - top) * (y1 - y0);
    const nearest = (points, x) =>
      points.reduce((best, point) => Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best);

    const read = (event) => {
      const box = chart.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
      if (x < left - 4 || x > right + 4) return rest();
      const found = lines.map((points) => nearest(points, x));
      const at = nearest(found, x)[0];
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
      chart.classList.add("read");
      const where = x0 + (at - left) / (right - left) * (x1 - x0);
      const label = names ? names[Math.round(where)] : short(where);
      title.textContent = `${heading} · ${chart.dataset.xTitle} ${label}`;
      entries.forEach((entry, i) => {
        if (apart[i] && Math.abs(found[i][0] - at) > 0.1) {
          entry.textContent = "–";
          return;
        }
        const here = value(found[i][1]);
        entry.textContent = (shares ? (100 * here).toFixed(1) : short(here)).replaceAll("-", "−");
      });
    };
    const rest = () => {
      chart.classList.remove("read");
      title.textContent = heading;
      for (const entry of entries) entry.textContent = entry.dataset.last;
    };
    chart.addEventListener("pointermove", read);
    chart.addEventListener("pointerdown", read);
    chart.addEventListener("pointerleave", rest);
  }
}

function short(value) {
  if (Math.abs(value) >= 1e6) {
    return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);
  }
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(1);
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

function element(tag, name, content) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (content !== undefined) made.textContent = content;
  return made;
}

function rollouts() {
  const data = document.getElementById("samples");
  if (!data) return;
  const samples = JSON.parse(data.textContent);
  const filters = document.getElementById("filters");
  const list = document.getElementById("rollouts");
  const more = document.getElementById("older");
  const found = document.getElementById("found");
  const rewards = samples.map((sample) => sample.reward).filter((reward) => reward !== null);
  const least = Math.min(0, ...rewards);
  const most = Math.max(1, ...rewards);
  const PAGE = 12;
  const FIELDS = ["stage", "environment", "source", "thinking", "status"];
  const asked = new Map(); // How often a task is there: once is nothing to compare.
  let task = "";
  let matching = samples;
  let shown = 0;
  const columns = [element("div", "column"), element("div", "column")];
  list.append(...columns);

  for (const sample of samples) {
    const pieces = [...sample.prompt, ...sample.completion];
    sample.text = pieces.map((piece) => piece[1]).join("\n").toLowerCase();
    sample.key = sample.task && `${sample.source} ${sample.environment} ${sample.task}`;
    asked.set(sample.key, (asked.get(sample.key) ?? 0) + 1);
  }

  const bound = (field) => filters.elements[field].value === "" ? null : Number(filters.elements[field].value);

  function matches(sample, wanted) {
    if (task && sample.key !== task) return false;
    if (FIELDS.some((field) => wanted[field] && sample[field] !== wanted[field])) return false;
    if (wanted.low !== null && (sample.reward === null || sample.reward < wanted.low)) return false;
    if (wanted.high !== null && (sample.reward === null || sample.reward > wanted.high)) return false;
    return sample.text.includes(wanted.text);
  }

  function filter() {
    const wanted = { low: bound("low"), high: bound("high"), text: filters.elements.text.value.trim().toLowerCase() };
    for (const field of FIELDS) wanted[field] = filters.elements[field].value;
    matching = samples.filter((sample) => matches(sample, wanted));
    const scored = matching.map((sample) => sample.reward).filter((reward) => reward !== null);
    const mean = scored.length ? ` · mean reward ${short(scored.reduce((a, b) => a + b) / scored.length)}` : "";
    const what = task ? "of one task" : "shown by these filters";
    found.textContent = matching.length ? `${matching.length.toLocaleString("en")} ${what}${mean}`
      : "None match these filters.";
    if (task) found.append(" · ", press("all tasks again", () => { task = ""; filter(); }));
    for (const column of columns) column.replaceChildren();
    shown = 0;
    extend();
  }

  function extend() {
    matching.slice(shown, shown + PAGE).forEach((sample, i) => {
      const made = card(sample);
      made.style.order = shown + i; // where the columns are one
      const [first, second] = columns;
      (second.offsetHeight < first.offsetHeight ? second : first).append(made);
    });
    shown = Math.min(shown + PAGE, matching.length);
    more.hidden = shown >= matching.length;
    more.textContent = `Show more (${(matching.length - shown).toLocaleString("en")} left)`;
  }

  function card(sample) {
    const made = element("article", "rollout");
    const head = element("header");
    head.append(element("b", "", sample.part ? `${sample.stage} ${sample.part}` : sample.stage));
    if (sample.step !== null) head.append(element("span", "", `step ${sample.step}`));
    if (sample.environment) head.append(element("span", "", sample.environment));
    if (sample.source === "evaluation") head.append(element("span", "", "evaluation"));
    if (sample.thinking === "off") head.append(element("span", "", "thinking off"));
    if (sample.status && sample.status !== "ok") head.append(element("span", "badge stale", sample.status));
    head.append(reward(sample.reward));
    made.append(head);
    for (const [kind, text] of sample.prompt) made.append(fold(kind, text, "prompt"));
    if (!sample.completion.length) made.append(element("p", "hint", "An empty completion."));
    for (const [kind, text] of sample.completion) {
      made.append(kind === "answer" ? element("div", "answer", text) : fold(kind, text, kind.split(/[ ,]/)[0]));
    }
    if (sample.key && !task && asked.get(sample.key) > 1) {
      made.append(press(`this task, all ${asked.get(sample.key)} completions`, () => {
        filters.reset();
        task = sample.key;
        filter();
        filters.scrollIntoView({ block: "start" });
      }));
    }
    return made;
  }

  function press(text, act) {
    const made = element("button", "link", text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  }

  function reward(value) {
    const made = element("span", "reward");
    made.append(element("span", "", value === null ? "no reward" : short(value)));
    if (value !== null) {
      const bar = element("i");
      bar.style.setProperty("--at", `${100 * (value - least) / (most - least)}%`);
      made.append(bar);
    }
    return made;
  }

  // Short prompts stand open; thinking is always folded.
  function fold(kind, text, name) {
    if (name !== "thinking" && text.length < 240) {
      const made = element("div", `piece ${name}`);
      made.append(element("small", "", kind), element("div", "", text));
      return made;
    }
    const made = element("details", `piece ${name}`);
    const words = text.split(/\s+/).filter(Boolean).length;
    const summary = element("summary");
    summary.append(element("small", "", `${kind} · ${words.toLocaleString("en")} words`));
    summary.append(element("span", "peek", text.slice(0, 160)));
    made.append(summary, element("div", "", text));
    return made;
  }

  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", extend);
  filter();
}

pointers();
rollouts();
