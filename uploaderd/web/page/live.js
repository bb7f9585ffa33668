"use strict";
// The page says everything without this. With it, it stays true while one looks: the sections that changed
// come over one stream of events, and times are told in the reader's own time zone.

const today = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const thisYear = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
const fully = { dateStyle: "medium", timeStyle: "medium" };

function localise(root) {
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    const full = at.toLocaleString([], fully);
    if (!time.title) time.textContent = at.toLocaleString([], nearness(at));
    time.title = full;
  }
}

function nearness(at) {
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return today;
  return at.getFullYear() === now.getFullYear() ? thisYear : fully;
}

// Put new markup into a section, and leave the reader where they are: what they opened stays open, and what
// had the focus has it again.
function replace(section, markup) {
  const focused = section.contains(document.activeElement) ? document.activeElement : null;
  const address = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") &&
    `a[href="${CSS.escape(focused.getAttribute("href"))}"]`);
  const open = [...section.querySelectorAll("details[open]")].map((one) => one.id);
  section.innerHTML = markup;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  localise(section);
  if (address) section.querySelector(address)?.focus({ preventScroll: true });
}

// The table is fetched anew when the figures above it moved, but never under the reader's hands.
let tableDue = 0;
function refreshTable() {
  clearTimeout(tableDue);
  tableDue = setTimeout(async () => {
    const table = document.getElementById("recordings");
    const busy = table.contains(document.activeElement) || String(getSelection()).length > 0;
    if (busy || new URLSearchParams(location.search).has("cursor")) return;
    try {
      const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("recordings");
      if (fresh && !table.contains(document.activeElement)) replace(table, fresh.innerHTML);
    } catch {
      // The stream of events tells whether the daemon answers.
    }
  }, 1500);
}

const LOST_AFTER = 5000;
let lostDue = 0;
let heardAt = new Date();

function heard() {
  heardAt = new Date();
  clearTimeout(lostDue);
  lostDue = setTimeout(lost, 4 * LOST_AFTER); // a connection that is dead, and does not know it
  const alarm = document.getElementById("lost");
  if (!alarm.hidden) {
    alarm.hidden = true;
    delete document.body.dataset.lost;
  }
}

function lost() {
  const alarm = document.getElementById("lost");
  if (!alarm.hidden) return;
  document.getElementById("lost-since").textContent = heardAt.toLocaleString([], fully);
  alarm.hidden = false;
  document.body.dataset.lost = "";
  document.title = `NO ANSWER · ${document.title.replace(/^[A-Z ]+ · /, "")}`;
}

function listen() {
  const events = new EventSource("/events");
  events.addEventListener("sections", (event) => {
    heard();
    const { title, icon, sections } = JSON.parse(event.data);
    document.title = title;
    const link = document.getElementById("icon");
    if (link.href !== icon) link.href = icon;
    for (const [id, markup] of Object.entries(sections)) {
      const section = document.getElementById(id);
      if (section) replace(section, markup);
    }
    if ("counts" in sections) refreshTable();
  });
  events.addEventListener("error", () => {
    clearTimeout(lostDue);
    lostDue = setTimeout(lost, LOST_AFTER);
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, LOST_AFTER);
  });
}

localise(document);
if ("live" in document.body.dataset) listen();
