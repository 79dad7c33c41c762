// Which parts of the page are out of date? Fetches them from the server, ready-made, and puts them in place.
// Events say what changed; where they do not come through, the page asks every ten seconds. Without this file it reloads.
"use strict";

const root = new URL(document.body.dataset.root, location.href);
const only = document.body.dataset.check;
const live = document.getElementById("live");
const changed = new Set();
const GATHER = 1000, BUSY = 2000, POLL = 10000;
let everything = false, waiting = 0, polling = 0, busy = 0, fetching = false;

function say(text) {
  live.textContent = text;
  live.hidden = false;
}

function fragment() {
  const url = new URL(document.body.dataset.fragment, root);
  if (!only && !everything) for (const name of changed) url.searchParams.append("check", name);
  return url;
}

async function refresh() {
  waiting = 0;
  if (fetching) return soon();
  if (document.hidden) return void (everything = true); // it is made up for when somebody looks
  const url = fragment();
  everything = false;
  changed.clear();
  fetching = true;
  try {
    const answer = await fetch(url, { headers: { accept: "text/html" } });
    if (answer.status === 404) return location.reload();
    if (answer.ok) place(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    say("no connection");
  } finally {
    fetching = false;
  }
  clearTimeout(busy);
  if (document.querySelector("[data-part][data-busy]")) busy = setTimeout(refreshBusy, BUSY);
}

function refreshBusy() {
  for (const part of document.querySelectorAll("[data-part][data-busy]")) changed.add(part.dataset.part);
  soon();
}

function soon(again) {
  if (again) everything = true;
  if (!waiting) waiting = setTimeout(refresh, GATHER);
}

// What the clock alone changes is no change.
const content = (part) => part.outerHTML.replace(/(<time[^>]*>)[^<]*/g, "$1");

function place(fresh) {
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const old = document.getElementById(part.id);
    if (!old) return location.reload();
    if (content(old) === content(part) || reading(old)) continue;
    for (const fold of old.querySelectorAll("details[id]")) {
      const same = part.querySelector("#" + CSS.escape(fold.id));
      if (same) same.open = fold.open;
    }
    const focus = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.replaceWith(document.adoptNode(part));
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  }
  clocks();
}

function reading(part) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(part, true);
}

function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  for (const [large, small, size, step] of [["d", "h", 86400, 3600], ["h", "min", 3600, 60], ["min", "s", 60, 1]]) {
    if (whole < size) continue;
    const rest = Math.floor((whole % size) / step);
    return Math.floor(whole / size) + " " + large + (rest ? " " + rest + " " + small : "");
  }
  return whole + " s";
}

function clocks() {
  for (const time of document.querySelectorAll("time[data-form]")) {
    const past = (Date.now() - Date.parse(time.dateTime)) / 1000;
    const form = time.dataset.form;
    time.textContent = form === "in" ? (past > -1 ? "soon" : "in " + span(-past)) : form === "for" ? "for " + span(past) : span(past) + " ago";
  }
}

function poll() {
  say("every 10 s");
  clearInterval(polling);
  polling = setInterval(() => soon(true), POLL);
}

function listen() {
  const events = new EventSource(new URL("api/v1/events", root));
  events.addEventListener("open", () => {
    clearInterval(polling);
    say("live");
    soon(true);
  });
  events.addEventListener("result", (event) => {
    const { check } = JSON.parse(event.data);
    if (only && check !== only) return;
    changed.add(check);
    soon();
  });
  events.addEventListener("refetch", () => soon(true));
  events.addEventListener("error", poll);
}

document.addEventListener("submit", async (event) => {
  if (!event.target.matches("[data-run]")) return;
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  button.textContent = "Asked";
  const answer = await fetch(event.target.action, { method: "POST" });
  if (!answer.ok) button.textContent = answer.status === 409 ? "Already running" : "Refused";
  const part = event.target.closest("[data-part]");
  if (part) changed.add(part.dataset.part);
  soon();
});
document.addEventListener("visibilitychange", () => document.hidden || soon(true));

clocks();
setInterval(clocks, 5000);
listen();
if (document.querySelector("[data-part][data-busy]")) busy = setTimeout(refreshBusy, BUSY);
