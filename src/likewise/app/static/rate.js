// The raters' page. The server decides what is judged next; this shows it, and sends answers until
// they are acknowledged. An answer keeps its random word when it is sent again, so that it counts once.
"use strict";

const part = (id) => document.getElementById(id);
const base = location.pathname.replace(/[^/]*$/, "");
const WAITS = [300, 600, 1200, 2400, 4000]; // milliseconds between tries

let now = null; // what the server said last
let busy = true; // while images load, or an answer is on its way
let shownAt = 0;

const word = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (one) => one.toString(16).padStart(2, "0")).join("");
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const address = (image) => `${base}image/${image}`;

// Ask until the server answers; 4xx are answers too.
async function ask(path, body) {
  for (let tries = 0; ; tries++) {
    try {
      const options = body === undefined ? {} : {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
      };
      const answer = await fetch(base + path, {
        ...options, cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(15000),
      });
      if (answer.status < 500) {
        trouble("");
        const kind = answer.headers.get("content-type") || "";
        return { status: answer.status, content: kind.startsWith("application/json") ? await answer.json() : null };
      }
    } catch (error) {
      // no connection: as below
    }
    trouble("No connection. Your answer is kept, and sent as soon as the server is back.");
    await wait(WAITS[Math.min(tries, WAITS.length - 1)]);
  }
}

function trouble(text) {
  part("trouble").textContent = text;
  part("trouble").hidden = !text;
}

function show(section) {
  for (const id of ["welcome", "judging", "end"]) part(id).hidden = id !== section;
}

async function load(img, source) {
  if (img.getAttribute("src") !== source) img.src = source;
  for (let tries = 0; ; tries++) {
    try {
      await img.decode();
      return;
    } catch (error) {
      await wait(WAITS[Math.min(tries, WAITS.length - 1)]);
      img.src = source; // the server may have been away
    }
  }
}

async function display(state) {
  now = state;
  if (!state.joined) {
    busy = false;
    show("welcome");
    if (state.full) finish("Thank you for coming", "This study has all the answers it needs.");
    return;
  }
  if (state.showing === null) {
    busy = false;
    finish("Thank you", `All done: ${state.done} answers. Your code is ${state.code}.`);
    part("end-undo").hidden = state.undo === null;
    return;
  }
  part("prompt").textContent = state.prompt;
  part("question").textContent = state.text;
  part("count").textContent = `${state.done + 1} of ${state.total}`;
  part("progress").max = state.total;
  part("progress").value = state.done;
  part("undo").disabled = state.undo === null;
  show("judging");
  await Promise.all([
    load(part("reference"), address(state.reference)),
    load(part("left").firstElementChild, address(state.left)),
    load(part("right").firstElementChild, address(state.right)),
  ]);
  document.body.dataset.showing = `${state.showing}/${state.question}`;
  shownAt = performance.now();
  busy = false;
  for (const image of state.next || []) new Image().src = address(image);
}

function finish(title, text) {
  show("end");
  part("end-title").textContent = title;
  part("end-text").textContent = text;
}

async function send(path, body) {
  busy = true;
  delete document.body.dataset.showing;
  const answer = await ask(path, body);
  if (answer.content && answer.content.joined !== undefined) {
    await display(answer.content);
  } else {
    await begin(); // something else went on in another tab
  }
}

function choose(choice) {
  if (busy || !now || now.showing === null || now.showing === undefined) return;
  const milliseconds = Math.round(performance.now() - shownAt);
  send("vote", { showing: now.showing, question: now.question, choice, nonce: word(), milliseconds });
}

function undo() {
  if (busy || !now || now.undo === null || now.undo === undefined) return;
  send("undo", { vote: now.undo });
}

async function begin() {
  const answer = await ask("state");
  if (answer.content) await display(answer.content);
  else trouble("This study is not here any more.");
}

part("begin").addEventListener("click", () => { if (!busy) send("join", {}); });
for (const id of ["left", "right", "tie"]) part(id).addEventListener("click", () => choose(id));
part("undo").addEventListener("click", undo);
part("end-undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const choice = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" }[event.key];
  if (choice && !part("judging").hidden) {
    event.preventDefault();
    choose(choice);
  } else if ((event.key === "u" || event.key === "U" || event.key === "Backspace") && now && now.joined) {
    event.preventDefault();
    undo();
  }
});
begin();
