// The playground: sends an order, and shows its images as they come.
"use strict";

const part = (id) => document.getElementById(id);
const chooser = new Chooser(part("systems"));
let examples = [];
let adapters = [];
let upload = null; // base64
let job = null;

const say = (text) => { part("said").textContent = text; };
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

function choose() {
  const found = examples.find((one) => one.id === part("example").value);
  if (!found) return;
  upload = null;
  part("upload").value = "";
  part("reference").src = `/playground/examples/${encodeURIComponent(found.id)}`;
  part("prompt").value = found.prompt;
}

// Adapters come in order, from those that lean to identity to those that lean to the prompt.
function offerBlend() {
  part("blend").hidden = adapters.length < 2;
  if (adapters.length < 2) return;
  for (const [id, index] of [["first", 0], ["second", adapters.length - 1]]) {
    for (const one of adapters) html("option", part(id), one.label).value = one.id;
    part(id).selectedIndex = index;
  }
  explain();
}

function explain() {
  const [first, second] = ["first", "second"].map((id) => adapters.find((one) => one.id === part(id).value));
  const said = (one) => (one.change
    ? `${one.label}: identity ${signed(one.change.identity)}, prompt ${signed(one.change.prompt)}`
    : `${one.label}: not known`);
  part("leaning").textContent = first === second
    ? "Choose two different adapters."
    : `What training changed, by the held-out evaluators. ${said(first)}; ${said(second)}.`;
}

async function begin() {
  const read = async (path) => {
    const answer = await fetch(path).catch(() => null);
    return answer && answer.ok ? answer.json() : [];
  };
  [examples, adapters] = await Promise.all([read("/playground/examples"), read("/playground/adapters")]);
  for (const one of examples) html("option", part("example"), one.subject).value = one.id;
  choose();
  offerBlend();
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
    figure.className = "card";
    const img = html("img", figure);
    img.alt = `${part("prompt").value}, by ${one.label}`;
    img.src = one.image;
    html("figcaption", figure, one.label);
    const list = html("dl", figure);
    for (const [name, value] of Object.entries(one.scores)) {
      html("dt", list, name.replaceAll("/", "/\u200b")); // where a line may break
      html("dd", list, value.toFixed(3));
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
    } else {
      say("No connection. Trying again…");
    }
    await new Promise((done) => setTimeout(done, 300));
  }
  part("cancel").disabled = true;
  job = null;
}

function order() {
  const found = {
    prompt: part("prompt").value, systems: chooser.chosen, seed: Number(part("seed").value),
    strength: Number(part("strength").value),
  };
  if (upload === null) found.example = part("example").value;
  else found.upload = upload;
  if (part("blend-on").checked) {
    found.blend = { first: part("first").value, second: part("second").value, share: Number(part("share").value) };
  }
  return found;
}

async function send() {
  cancel(); // one order of this page at a time
  const answer = await fetch("/playground/draw", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(order()),
  }).catch(() => null);
  if (!answer || !answer.ok) return say(answer ? await answer.text() : "No connection.");
  job = (await answer.json()).id;
  say("Waiting…");
  part("cancel").disabled = false;
  watch(job);
}

function cancel() {
  if (job) fetch(`/playground/jobs/${job}/cancel`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
}

// A slider that is let go draws again, once something has been drawn.
function slid() {
  if (part("drawn").childElementCount) send();
}

part("order").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
part("cancel").addEventListener("click", cancel);
part("strength").addEventListener("input", () => { part("strength-said").textContent = part("strength").value; });
part("strength").addEventListener("change", slid);
part("share").addEventListener("input", () => { part("share-said").textContent = Number(part("share").value).toFixed(2); });
part("share").addEventListener("change", () => {
  part("blend-on").checked = true;
  slid();
});
for (const id of ["first", "second"]) part(id).addEventListener("change", explain);
begin();
