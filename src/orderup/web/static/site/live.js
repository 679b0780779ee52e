// Keeps a page true. The socket only says that something happened; what is shown always comes from the server, as the
// page that a reload would give. Elements marked data-swap are brought up to date, and nothing else is touched.
// WebSocket first; where that does not work, server-sent events; where neither does, a look every now and then.

const TOGETHER_MS = 250; // events that come close together are one look
const LOOK_EVERY_MS = 15000;
const SAY_EVERY_MS = 3000;
const LONGEST_WAIT_MS = 20000;
const READ_MS = 1000; // what comes into view without being asked for is read before it is decided
const body = document.body;
const line = document.getElementById("connection");
const announcer = document.getElementById("announcer");
let seq = Number(body.dataset.seq);
let heardAt = new Date();

// Bringing the page up to date

let isDue = false;
let isLooking = false;
let again = false;
let misses = 0;

function comeSoon() {
  if (isDue) return;
  isDue = true;
  setTimeout(() => { isDue = false; look(); }, TOGETHER_MS);
}

async function look() {
  if (isLooking) { again = true; return; }
  isLooking = true;
  try {
    const answer = await fetch(location.href, { headers: { "X-Live": "1" }, signal: AbortSignal.timeout(10000) });
    if (answer.status >= 500) throw new Error(answer.statusText);
    if (!answer.ok) return; // refused: it would be again
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    // an answer that was overtaken by a later one shows what no longer is
    const at = Number(fresh.body.dataset.seq);
    if (at < Number(body.dataset.seq)) return;
    body.dataset.seq = at;
    if (fresh.body.dataset.look) body.dataset.look = fresh.body.dataset.look; else delete body.dataset.look;
    document.title = fresh.title;
    swap(fresh);
    misses = 0;
  } catch {
    // what happened is not told a second time, so it is looked for until it is seen
    misses += 1;
    setTimeout(comeSoon, Math.min(LOOK_EVERY_MS, 500 * 2 ** misses));
  } finally {
    isLooking = false;
    if (again) { again = false; comeSoon(); }
  }
}

function swap(fresh) {
  for (const part of document.querySelectorAll("[data-swap]")) {
    const newer = fresh.getElementById(part.id);
    if (newer) morph(part, newer);
  }
  localTimes();
  announce();
}

// Makes `old` like `newer`, keeping what is the same: an element in use (focused, typed into, open) stays where it is.
function morph(old, newer) {
  if (old.isEqualNode(newer)) return;
  for (const { name } of [...old.attributes]) {
    if (!newer.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of newer.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.matches("input, textarea, select")) return; // what somebody types is his
  const heirs = neighboursOfFocus(old);
  const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const child of [...newer.childNodes]) {
    const same = child.id ? known.get(child.id) : alike(place, child) ? place : null;
    if (same) {
      if (same !== place && same.contains(document.activeElement)) {
        // what is moved loses the focus, so all else goes behind it
        while (place !== same) { const next = place.nextSibling; old.append(place); place = next; }
      }
      if (same !== place) old.insertBefore(same, place); else place = place.nextSibling;
      if (same.nodeType === Node.ELEMENT_NODE) morph(same, child);
      else if (same.data !== child.data) same.data = child.data;
    } else {
      old.insertBefore(document.importNode(child, true), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    if (!isInUse(place)) place.remove();
    place = next;
  }
  if (heirs && !old.contains(document.activeElement)) {
    (heirs.find((each) => each.isConnected) ?? old.closest("[tabindex]"))?.focus();
  }
}

// Something is typed there that is not sent yet, or chosen.
function isInUse(node) {
  const field = document.activeElement;
  return node.contains(field) && field.matches("input, textarea, select") && field.value !== (field.defaultValue ?? "");
}

// Where the focus goes if the child that has it is taken away: to the next one, or the one before, where these take it.
function neighboursOfFocus(parent) {
  const all = [...parent.children];
  const here = all.findIndex((child) => child.contains(document.activeElement));
  if (here < 0) return null;
  return [...all.slice(here + 1), ...all.slice(0, here).reverse()].filter((child) => child.hasAttribute("tabindex"));
}

function alike(one, other) {
  return one && one.nodeType === other.nodeType && one.nodeName === other.nodeName && !one.id && !other.id;
}

// One sentence for those who hear the page, not one for each event.
let said = document.querySelector("[data-say]")?.textContent.trim();
let saidAt = 0;
function announce() {
  const words = document.querySelector("[data-say]")?.textContent.trim();
  if (!words || words === said) return;
  const rest = saidAt + SAY_EVERY_MS - Date.now();
  if (rest > 0) { setTimeout(announce, rest); return; } // what holds by then
  said = words;
  saidAt = Date.now();
  announcer.textContent = words;
}

// Hearing that something happened

let failures = 0;
let source;

function heard(event) {
  heardAt = new Date();
  if (event.seq <= seq) return; // told before
  seq = event.seq;
  comeSoon();
}

function show(isLive) {
  line.hidden = false;
  line.dataset.state = isLive ? "live" : "stale";
  line.textContent = isLive ? "Live" : `Reconnecting, last news ${clock(heardAt)}`;
}

function withSeq(address) {
  const url = new URL(address, location.href);
  url.searchParams.set("after", seq);
  return url;
}

function connect() {
  const url = withSeq(body.dataset.live);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  let opened = false;
  socket.onopen = () => { opened = true; failures = 0; heardAt = new Date(); show(true); comeSoon(); };
  socket.onmessage = (message) => heard(JSON.parse(message.data));
  socket.onclose = () => {
    failures += 1;
    if (opened || failures > 1) show(false);
    if (!opened && failures >= 3 && body.dataset.events) listen();
    else setTimeout(connect, wait());
  };
}

function listen() {
  source?.close();
  let opened = false;
  source = new EventSource(withSeq(body.dataset.events));
  source.onopen = () => { opened = true; show(true); comeSoon(); };
  source.onmessage = (message) => heard(JSON.parse(message.data));
  source.onerror = () => {
    show(false);
    source.close();
    if (opened) setTimeout(listen, wait());
    else setTimeout(() => { failures = 0; connect(); }, LOOK_EVERY_MS);
    look();
  };
}

function wait() {
  return Math.random() * Math.min(LONGEST_WAIT_MS, 500 * 2 ** failures);
}

// Times, in the reader's own zone

function clock(moment, seconds) {
  if (moment.toDateString() !== new Date().toDateString()) return date(moment, seconds); // or it would be taken for today's
  return moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined });
}

function date(moment, seconds) {
  const second = seconds ? "2-digit" : undefined;
  return moment.toLocaleString([], { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", second });
}

function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
  return `${Math.floor(minutes / 1440)} d`;
}

function localTimes() {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    const { since, seconds } = element.dataset;
    const text = since !== undefined ? span((Date.now() - moment) / 1000)
      : "date" in element.dataset ? date(moment) : clock(moment, seconds !== undefined);
    if (element.textContent !== text) element.textContent = text;
    element.title = `${moment.toLocaleString()} (${element.dateTime})`;
  }
  for (const element of document.querySelectorAll("[data-late]")) {
    const text = Date.now() > new Date(element.dataset.late) ? "late" : "on time";
    if (element.textContent !== text) element.textContent = element.dataset.state = text;
  }
}

// A form marked data-beat is sent again every so many seconds while the page is open. The answer is not looked at: what
// became of it is on the page.
const beats = new WeakMap();
function beat() {
  for (const form of document.querySelectorAll("form[data-beat]")) {
    const due = beats.get(form) ?? Date.now() + form.dataset.beat * 1000;
    beats.set(form, due);
    if (Date.now() < due) continue;
    beats.set(form, Date.now() + form.dataset.beat * 1000);
    const fields = new URLSearchParams(new FormData(form));
    fetch(form.action, { method: "POST", body: fields, redirect: "manual", signal: AbortSignal.timeout(10000) })
      .then(comeSoon, () => {}); // away: the next one will do
  }
}

// A button marked data-preview shows what comes of its form. It is pressed for whoever types there, each time he rests.

function previewWith(button) {
  const { form } = button;
  const isPost = form.getAttribute("method") === "post";
  let due;
  let asked = 0;
  button.type = "button"; // or Enter would press it, and not the one that sends the form
  button.hidden = true;

  async function preview() {
    const mine = ++asked;
    const fields = new URLSearchParams(new FormData(form));
    const address = new URL(button.formAction);
    if (!isPost) address.search = fields;
    try {
      const asks = isPost ? { method: "POST", body: fields } : {};
      const answer = await fetch(address, { ...asks, headers: { "X-Live": "1" }, signal: AbortSignal.timeout(10000) });
      const text = await answer.text();
      if (mine !== asked) return; // he has typed since
      if (answer.status >= 500) throw new Error(answer.statusText);
      if (!isPost) history.replaceState(null, "", address); // what a later look asks for
      swap(new DOMParser().parseFromString(text, "text/html"));
    } catch {
      if (mine !== asked) return;
      button.type = "submit"; // he may press it himself
      button.hidden = false;
    }
  }

  form.addEventListener("input", () => { clearTimeout(due); due = setTimeout(preview, TOGETHER_MS); });
  // he may have typed before this script was there, or come back to what he had typed
  if ([...form.elements].some((field) => field.defaultValue !== undefined && field.value !== field.defaultValue)) preview();
}

for (const button of document.querySelectorAll("button[data-preview]")) previewWith(button);

// Forms and ids

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && !confirm(form.dataset.confirm)) { event.preventDefault(); return; }
  const button = event.submitter ?? form.querySelector("button");
  button?.setAttribute("aria-busy", "true");
});

addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[aria-busy]")) button.removeAttribute("aria-busy");
});

document.addEventListener("click", (event) => {
  const copied = event.target.closest?.("[data-copy]");
  if (!copied) return;
  navigator.clipboard?.writeText(copied.dataset.copy).then(() => { announcer.textContent = "Copied"; });
});

// Keys for whoever decides many requests: letters alone, so they can be turned off (WCAG 2.1.4)

const keys = document.querySelector(".keys");
const keysAreOn = () => localStorage.getItem("keys") !== "off";
const cards = () => [...document.querySelectorAll(".inbox > .card")];
let decidesFrom = 0;

function showKeys() {
  keys.querySelector("button").textContent = keysAreOn() ? "Turn keys off" : "Turn keys on";
}

function press(letter) {
  const all = cards();
  const here = all.indexOf(document.activeElement.closest(".card"));
  const there = { j: here + 1, k: here < 0 ? all.length - 1 : here - 1 }[letter];
  if (there !== undefined) all[Math.min(Math.max(there, 0), all.length - 1)]?.focus();
  else if (letter === "d") all[here]?.querySelector("textarea").focus();
  else if (letter === "a" && here >= 0 && performance.now() >= decidesFrom) {
    sessionStorage.setItem("byKeys", "1"); // the page that comes then begins where this one ended
    all[here].querySelector("button[value=approve]").click();
  }
}

if (keys) {
  keys.hidden = false;
  showKeys();
  keys.querySelector("button").addEventListener("click", () => {
    localStorage.setItem("keys", keysAreOn() ? "off" : "on");
    showKeys();
  });
  document.addEventListener("keydown", (event) => {
    if (!keysAreOn() || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (!"jkad".includes(event.key)) return;
    event.preventDefault();
    if (!event.repeat) press(event.key); // one that is held would approve card after card
  });
  if (sessionStorage.getItem("byKeys")) {
    sessionStorage.removeItem("byKeys");
    decidesFrom = performance.now() + READ_MS;
    cards()[0]?.focus();
  }
}

localTimes();
setInterval(localTimes, 1000);
beat();
setInterval(beat, 500);
if (body.dataset.live) {
  connect();
  setInterval(() => { if (line.dataset.state !== "live") look(); }, LOOK_EVERY_MS);
}
lookOften();

// A page that shows what no event tells of says how often, in seconds, it is to be looked at, each time anew.
function lookOften() {
  if (!body.dataset.look) return;
  setTimeout(() => { if (!document.hidden) look(); lookOften(); }, body.dataset.look * 1000);
}
