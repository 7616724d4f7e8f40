// The playground: sends an order, and shows its images as they come.
"use strict";

const part = (id) => document.getElementById(id);
let examples = [];
let upload = null; // base64
let job = null;

const chosen = () => [...document.querySelectorAll("#systems input:checked")].map((one) => one.value);
const say = (text) => { part("said").textContent = text; };

function choose() {
  const found = examples.find((one) => one.id === part("example").value);
  if (!found) return;
  upload = null;
  part("upload").value = "";
  part("reference").src = `/playground/examples/${encodeURIComponent(found.id)}`;
  part("prompt").value = found.prompt;
}

async function begin() {
  const answer = await fetch("/playground/examples");
  examples = answer.ok ? await answer.json() : [];
  for (const one of examples) html("option", part("example"), one.subject).value = one.id;
  choose();
}

part("example").addEventListener("change", choose);
part("upload").addEventListener("change", () => {
  const file = part("upload").files[0];
  if (!file) return;
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    upload = reader.result.split(",")[1] || "";
    part("reference").src = reader.result;
  });
  reader.readAsDataURL(file);
});

function show(state) {
  part("drawn").replaceChildren(...state.images.map((one) => {
    const figure = document.createElement("figure");
    const img = html("img", figure);
    img.alt = `${part("prompt").value}, by ${one.label}`;
    img.src = one.image;
    const caption = html("figcaption", figure, one.label);
    for (const [name, value] of Object.entries(one.scores)) {
      html("br", caption);
      html("small", caption, `${name} ${value.toFixed(3)}`);
    }
    return figure;
  }));
  const steps = part("steps");
  steps.hidden = state.state !== "drawing";
  steps.max = state.systems;
  steps.value = state.images.length + (state.steps ? state.step / state.steps : 0);
  const words = {
    waiting: "Waiting for other images…", drawing: "Drawing…", done: "Done.", cancelled: "Cancelled.",
    failed: `Failed: ${state.problem}`,
  };
  say(words[state.state]);
}

async function watch(own) {
  for (;;) {
    const answer = await fetch(`/playground/jobs/${own}`, { cache: "no-store" }).catch(() => null);
    if (job !== own) return;
    if (answer && answer.ok) {
      const state = await answer.json();
      show(state);
      if (!["waiting", "drawing"].includes(state.state)) break;
    } else if (answer) {
      say("This image is not known any more.");
      break;
    }
    await new Promise((done) => setTimeout(done, 300));
  }
  part("cancel").disabled = true;
  job = null;
}

part("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  const order = { prompt: part("prompt").value, systems: chosen(), seed: Number(part("seed").value), strength: Number(part("strength").value) };
  if (!order.systems.length) return say("Choose what is to draw.");
  if (upload === null) order.example = part("example").value;
  else order.upload = upload;
  const answer = await fetch("/playground/draw", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(order),
  }).catch(() => null);
  if (!answer || !answer.ok) return say(answer ? await answer.text() : "No connection.");
  job = (await answer.json()).id;
  say("Waiting…");
  part("cancel").disabled = false;
  watch(job);
});
part("strength").addEventListener("input", () => { part("strength-said").textContent = part("strength").value; });
part("cancel").addEventListener("click", () => {
  if (job) fetch(`/playground/jobs/${job}/cancel`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
});
document.getElementById("systems").addEventListener("change", () => {
  const full = chosen().length >= Number(part("systems").dataset.most);
  for (const box of document.querySelectorAll("#systems input")) box.disabled = full && !box.checked;
});
begin();
