// The gallery: all tasks as rows of images; filters and order are kept in the address.
"use strict";

const FILTERS = ["kind", "category", "complexity"];
const AIMS = { identity: "evaluator/identity", prompt: "evaluator/prompt" };
const QUADRANTS = {
  "both up": [1, 1], "identity up, prompt down": [1, -1], "identity down, prompt up": [-1, 1], "both down": [-1, -1],
};
const PER_PAGE = 12; // samples that come and go together
const AHEAD = "1000px"; // above and below the screen, samples are there already
const SIZES = { small: 150, large: 230 }; // pixels of an image, at least
let content = { systems: [], tasks: [] };
let chooser = null, near = null;

const parameters = () => new URLSearchParams(location.search);
const queryOfSystems = () => new URLSearchParams(chooser.chosen.map((one) => ["system", one]));
const score = (task, number, name) => (task.images[number] ? task.images[number].scores[name] : undefined);

function change(task, name) {
  const last = content.systems.length - 1;
  const [first, second] = [score(task, 0, name), score(task, last, name)];
  return first === undefined || second === undefined ? undefined : second - first;
}

function menu(form, name, label, values) {
  const box = html("label", form, label, "field");
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
    menu(form, "quadrant", "from first to last", [["", "all"], ...Object.keys(QUADRANTS).map((one) => [one, one])]);
  }
  const scores = new Set(content.tasks.flatMap((task) => Object.values(task.images).flatMap((one) => Object.keys(one.scores))));
  const orders = [...scores].sort().flatMap((one) => {
    const own = [[`${one} low`, `${one}, lowest first`], [`${one} high`, `${one}, highest first`]];
    const moved = [[`${one} fell`, `${one}, fell most`], [`${one} rose`, `${one}, rose most`]];
    return content.systems.length > 1 ? [...own, ...moved] : own;
  });
  menu(form, "order", "order", [["", "as drawn"], ...orders]);
  const box = html("label", form, "words", "field");
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
    if (moves.some((one, number) => one === undefined || Math.sign(one) !== quadrant[number])) return false;
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

function addImage(parent, source, title, alt, note) {
  const figure = html("figure", parent);
  const img = html("img", figure);
  img.loading = "lazy";
  img.decoding = "async";
  img.alt = alt;
  img.src = source;
  const caption = html("figcaption", figure, title);
  img.addEventListener("error", () => {
    img.remove();
    caption.prepend("no image: ");
  });
  if (note) html("small", caption, note).prepend(document.createElement("br"));
}

function row(task) {
  const section = document.createElement("section");
  section.className = "sample card";
  section.id = `task-${task.key}`;
  const head = html("p", section, undefined, "head");
  html("b", head, task.prompt);
  html("small", head, `${task.subject} · ${task.kind} · complexity ${task.complexity}`);
  const link = html("a", head, "link");
  const query = queryOfSystems();
  query.set("task", task.key);
  link.href = `/gallery?${query}`;
  link.title = "address of this sample";
  const images = html("div", section, undefined, "images");
  const benchmark = content.systems.map((one) => one.benchmark).find(Boolean) || "";
  const reference = new URLSearchParams({ benchmark, task: task.task });
  addImage(images, `/gallery/reference?${reference}`, "reference", `reference of ${task.subject}`);
  content.systems.forEach((system, number) => {
    const own = task.images[number];
    if (!own) return;
    const scores = Object.entries(own.scores);
    const shown = scores.filter(([name]) => name.startsWith("evaluator/"));
    const note = (shown.length ? shown : scores.slice(0, 2)).map(([name, value]) => `${name.replace("evaluator/", "")} ${value.toFixed(2)}`);
    addImage(images, `/gallery/image/${system.id}/${own.index}`, chooser.label(system.id), task.prompt, note.join(", "));
    images.lastElementChild.title = scores.map(([name, value]) => `${name} ${value}`).join("\n");
  });
  return section;
}

// All scores of one sample, a column per system.
function table(task) {
  const box = html("div", document.createElement("div"), undefined, "card scores");
  const head = html("tr", html("thead", html("table", box)));
  html("th", head, "score");
  for (const system of content.systems) html("th", head, chooser.label(system.id));
  const body = html("tbody", box.firstElementChild);
  const names = new Set(Object.values(task.images).flatMap((one) => Object.keys(one.scores)));
  for (const name of [...names].sort()) {
    const line = html("tr", body);
    html("th", line, name);
    content.systems.forEach((_, number) => {
      const value = score(task, number, name);
      html("td", line, value === undefined ? "–" : value.toFixed(3));
    });
  }
  return box;
}

// Only samples near the screen are in the page; others leave room of the height they had.
function spread(tasks, box) {
  if (near) near.disconnect();
  near = new IntersectionObserver((entries) => {
    for (const entry of entries) (entry.isIntersecting ? fill : clear)(entry.target);
  }, { rootMargin: `${AHEAD} 0px` });
  box.replaceChildren();
  let height = 0;
  for (let at = 0; at < tasks.length; at += PER_PAGE) {
    const page = html("div", box, undefined, "samples");
    page.tasks = tasks.slice(at, at + PER_PAGE);
    if (at === 0) {
      fill(page);
      height = page.offsetHeight;
    } else {
      page.style.minHeight = `${height}px`; // a guess, until it has been there
    }
    near.observe(page);
  }
}

function fill(page) {
  if (page.childElementCount) return;
  page.append(...page.tasks.map(row));
  page.style.minHeight = "";
}

function clear(page) {
  if (!page.childElementCount) return;
  page.style.minHeight = `${page.offsetHeight}px`;
  page.replaceChildren();
}

function draw() {
  const asked = parameters(), only = asked.get("task");
  const tasks = only
    ? content.tasks.filter((task) => task.key === only)
    : ordered(content.tasks.filter((task) => wanted(task, asked)), asked.get("order"));
  const said = document.getElementById("said");
  said.textContent = only ? "One sample. " : `${tasks.length} of ${content.tasks.length} samples`;
  if (only) html("a", said, "Show all").href = `/gallery?${queryOfSystems()}`;
  for (const system of content.systems) {
    if (system.problem) html("span", said, `${system.label}: ${system.problem}`, "problem");
  }
  const box = document.getElementById("tasks"), form = document.getElementById("filters");
  form.hidden = Boolean(only);
  box.style.setProperty("--images", content.systems.length + 1);
  box.style.setProperty("--size", `${only ? SIZES.large : SIZES.small}px`);
  spread(tasks, box);
  if (only) box.append(...tasks.map(table));
}

async function load() {
  const asked = queryOfSystems().toString();
  const answer = await fetch(`/gallery/data?${asked}`).catch(() => null);
  if (asked !== queryOfSystems().toString()) return; // others have been chosen meanwhile
  if (!answer || !answer.ok) {
    document.getElementById("said").textContent = "No connection.";
    return;
  }
  content = await answer.json();
  filters();
  draw();
}

const choice = document.getElementById("choice");
if (choice) {
  chooser = new Chooser(choice);
  choice.addEventListener("change", () => {
    const query = parameters();
    query.delete("system");
    for (const one of chooser.chosen) query.append("system", one);
    history.replaceState(null, "", `?${query}`);
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
  load();
}
