// The gallery: all tasks as rows of images; filters and order are kept in the address.
"use strict";

const choice = document.getElementById("choice");
const FILTERS = ["kind", "category", "complexity"];
const AIMS = { identity: "evaluator/identity", prompt: "evaluator/prompt" };
const QUADRANTS = {
  "both up": [1, 1], "identity up, prompt down": [1, -1], "identity down, prompt up": [-1, 1], "both down": [-1, -1],
};
let content = { systems: [], tasks: [] };

const parameters = () => new URLSearchParams(location.search);
const chosen = () => [...choice.querySelectorAll("input:checked")].map((one) => one.value);
const score = (task, place, name) => (task.images[place] ? task.images[place].scores[name] : undefined);

function change(task, name) {
  const last = content.systems.length - 1;
  const [first, second] = [score(task, 0, name), score(task, last, name)];
  return first === undefined || second === undefined ? undefined : second - first;
}

function menu(form, name, label, values) {
  const box = html("label", form, `${label} `);
  const select = html("select", box);
  select.name = name;
  for (const [value, text] of values) {
    const option = html("option", select, text);
    option.value = value;
  }
  select.value = parameters().get(name) || "";
  if (select.selectedIndex < 0) select.value = "";
}

function filters() {
  const form = document.getElementById("filters");
  form.replaceChildren();
  for (const name of FILTERS) {
    const values = [...new Set(content.tasks.map((task) => task[name]))].filter((one) => one !== null).sort();
    if (values.length > 1) menu(form, name, name, [["", "all"], ...values.map((one) => [String(one), String(one)])]);
  }
  if (content.systems.length > 1) {
    menu(form, "quadrant", "first to last", [["", "all"], ...Object.keys(QUADRANTS).map((one) => [one, one])]);
  }
  const scores = new Set(content.tasks.flatMap((task) => Object.values(task.images).flatMap((one) => Object.keys(one.scores))));
  const orders = [...scores].sort().flatMap((one) => {
    const own = [[`${one} low`, `${one}, lowest first`], [`${one} high`, `${one}, highest first`]];
    const moved = [[`${one} fell`, `${one}, fell most`], [`${one} rose`, `${one}, rose most`]];
    return content.systems.length > 1 ? [...own, ...moved] : own;
  });
  menu(form, "order", "order", [["", "as drawn"], ...orders]);
  const box = html("label", form, "text ");
  const text = html("input", box);
  text.type = "search";
  text.name = "text";
  text.value = parameters().get("text") || "";
}

function wanted(task, asked) {
  for (const name of FILTERS) {
    const value = asked.get(name);
    if (value && String(task[name]) !== value) return false;
  }
  const quadrant = QUADRANTS[asked.get("quadrant")];
  if (quadrant) {
    const moves = [change(task, AIMS.identity), change(task, AIMS.prompt)];
    if (moves.some((one, place) => one === undefined || Math.sign(one) !== quadrant[place])) return false;
  }
  const text = (asked.get("text") || "").toLowerCase();
  return !text || `${task.prompt} ${task.subject}`.toLowerCase().includes(text);
}

function ordered(tasks, order) {
  if (!order) return tasks;
  const [, name, how] = order.match(/^(.*) (low|high|fell|rose)$/) || [];
  if (!name) return tasks;
  const last = content.systems.length - 1;
  const value = (task) => (how === "low" || how === "high" ? score(task, last, name) : change(task, name));
  const sign = how === "low" || how === "fell" ? 1 : -1;
  const known = tasks.filter((task) => value(task) !== undefined);
  return known.sort((one, other) => sign * (value(one) - value(other)));
}

function picture(parent, source, title, alt, note) {
  const figure = html("figure", parent);
  const img = html("img", figure);
  img.loading = "lazy";
  img.decoding = "async";
  img.alt = alt;
  img.src = source;
  const caption = html("figcaption", figure, title);
  if (note) html("small", caption, note).prepend(document.createElement("br"));
}

function row(task) {
  const section = document.createElement("section");
  section.className = "task-row card";
  section.id = `task-${task.key}`;
  const head = html("p", section, undefined, "head");
  html("b", head, task.prompt);
  html("small", head, ` ${task.subject} · ${task.kind} · complexity ${task.complexity} `);
  const link = html("a", head, "link");
  const query = new URLSearchParams(chosen().map((one) => ["system", one]));
  query.set("task", task.key);
  link.href = `/gallery?${query}`;
  const images = html("div", section, undefined, "images");
  const benchmark = content.systems.map((one) => one.benchmark).find(Boolean) || "";
  const reference = new URLSearchParams({ benchmark, task: task.task });
  picture(images, `/gallery/reference?${reference}`, "reference", `reference of ${task.subject}`);
  content.systems.forEach((system, place) => {
    const own = task.images[place];
    if (!own) return;
    const scores = Object.entries(own.scores);
    const shown = scores.filter(([name]) => name.startsWith("evaluator/"));
    const note = (shown.length ? shown : scores.slice(0, 2)).map(([name, value]) => `${name.replace("evaluator/", "")} ${value.toFixed(2)}`);
    picture(images, `/gallery/image/${system.id}/${own.index}`, system.brief, task.prompt, note.join(", "));
    images.lastElementChild.title = scores.map(([name, value]) => `${name} ${value}`).join("\n");
  });
  return section;
}

function draw() {
  const asked = parameters(), only = asked.get("task");
  const tasks = only
    ? content.tasks.filter((task) => task.key === only)
    : ordered(content.tasks.filter((task) => wanted(task, asked)), asked.get("order"));
  const said = document.getElementById("said");
  said.textContent = only ? "One sample. " : `${tasks.length} of ${content.tasks.length} samples`;
  if (only) {
    const all = html("a", said, "Show all");
    all.href = `/gallery?${new URLSearchParams(chosen().map((one) => ["system", one]))}`;
  }
  for (const system of content.systems) {
    if (system.problem) html("p", said, `${system.label}: ${system.problem}`, "problem");
  }
  document.getElementById("tasks").replaceChildren(...tasks.map(row));
}

async function load() {
  const query = new URLSearchParams(chosen().map((one) => ["system", one]));
  const answer = await fetch(`/gallery/data?${query}`);
  if (!answer.ok) return;
  content = await answer.json();
  const labels = brief(content.systems.map((one) => one.label));
  content.systems.forEach((one, place) => { one.brief = labels[place]; });
  filters();
  draw();
}

if (choice) {
  const limit = () => {
    const full = chosen().length >= Number(choice.dataset.most);
    for (const box of choice.querySelectorAll("input")) box.disabled = full && !box.checked;
  };
  choice.addEventListener("change", () => {
    const query = parameters();
    query.delete("system");
    for (const one of chosen()) query.append("system", one);
    history.replaceState(null, "", `?${query}`);
    limit();
    load();
  });
  document.getElementById("filters").addEventListener("input", (event) => {
    const query = parameters();
    query.delete("task");
    if (event.target.value) query.set(event.target.name, event.target.value);
    else query.delete(event.target.name);
    history.replaceState(null, "", `?${query}`);
    draw();
  });
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
  limit();
  load();
}
