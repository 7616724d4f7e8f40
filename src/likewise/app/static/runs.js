// The page of runs: asks for the chosen runs every two seconds, and draws what has changed.
"use strict";

const EVERY = 2000; // milliseconds
let chooser = null, last = "";

function time(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function describe(run, box) {
  const section = html("section", box, undefined, "card");
  html("h2", section, chooser.label(run.id)).title = run.label;
  if (run.problem) {
    html("p", section, run.problem, "problem");
    return;
  }
  let said = `${run.done} of ${run.total} iterations`;
  if (run.eta) said += `, about ${time(run.eta)} left`;
  if (run.quiet !== null && run.done < run.total) said += `; newest row ${time(run.quiet)} ago`;
  html("p", section, said, "said");
  const bar = html("progress", section);
  bar.max = run.total;
  bar.value = run.done;
  bar.setAttribute("aria-label", "iterations");
  for (const warning of run.warnings) html("p", section, `⚠ ${warning}`, "problem");
}

function draw(runs) {
  const states = document.getElementById("states"), charts = document.getElementById("charts");
  states.replaceChildren();
  for (const run of runs) describe(run, states);
  const titles = [...new Set(runs.flatMap((run) => run.charts.map((one) => one.title)))];
  charts.replaceChildren(...titles.map((title) => {
    const lines = [];
    let found;
    runs.forEach((run, index) => {
      const own = run.charts.find((one) => one.title === title);
      found = found || own;
      for (const [name, points] of Object.entries(own ? own.lines : {})) {
        const label = runs.length > 1 ? `${name} · ${chooser.label(run.id)}` : name;
        lines.push({ name, label, dash: DASHES[index], points });
      }
    });
    return chart(title, found.x, found.note, lines);
  }));
}

async function look() {
  const query = chooser.chosen.map((one) => `run=${one}`).join("&");
  const answer = await fetch(`/runs/data?${query}`, { cache: "no-store" }).catch(() => null);
  document.getElementById("away").hidden = Boolean(answer && answer.ok);
  if (!answer || !answer.ok) return; // the next look may find it again
  const { runs } = await answer.json();
  if (query !== chooser.chosen.map((one) => `run=${one}`).join("&")) return; // others by now
  // Charts are drawn again only when there is something new, or they would blink under the pointer.
  const age = (run) => (run.done < run.total ? Math.round(run.quiet / 10) : null);
  const text = JSON.stringify(runs.map((run) => ({ ...run, quiet: age(run) })));
  if (text !== last) draw(runs);
  last = text;
}

async function watch() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((done) => setTimeout(done, EVERY));
  }
}

const choice = document.getElementById("choice");
if (choice) {
  chooser = new Chooser(choice);
  choice.addEventListener("change", () => {
    history.replaceState(null, "", `?${chooser.chosen.map((one) => `run=${one}`).join("&")}`);
    look();
  });
  watch();
}
