// Tells whoever waits that it is ready though he looks elsewhere: by a sound, by a notification. Each only after he has
// asked for it by a button of this page, as browsers want it. That it is ready is read from the page, which live.js
// keeps true: the state of its headline is then the one that #tell names.

const headline = document.getElementById("headline");
const announcer = document.getElementById("announcer");
const tell = document.getElementById("tell");
const BEEPS = [[0, 660], [0.25, 660], [0.5, 880]]; // when, in seconds, and how high, in hertz
let sound = null;
let notifies = false;
let isTold = false;

function beep(beeps, loudness) {
  for (const [after, height] of beeps) {
    const tone = sound.createOscillator();
    const volume = sound.createGain();
    const from = sound.currentTime + after;
    tone.frequency.value = height;
    volume.gain.setValueAtTime(loudness, from);
    volume.gain.exponentialRampToValueAtTime(0.001, from + 0.2);
    tone.connect(volume).connect(sound.destination);
    tone.start(from);
    tone.stop(from + 0.2);
  }
}

function show(button, isOn, words) {
  button.setAttribute("aria-pressed", String(isOn));
  if (words) announcer.textContent = words;
}

async function switchSound(button) {
  if (sound) {
    await sound.close();
    sound = null;
    show(button, false);
    return;
  }
  sound = new AudioContext();
  await sound.resume();
  beep([[0, 880]], 0.1); // so that he knows how it sounds, and that it is not muted
  show(button, true);
}

async function switchNotice(button) {
  notifies = !notifies && await Notification.requestPermission() === "granted";
  const isRefused = !notifies && Notification.permission === "denied";
  show(button, notifies, isRefused ? "Your browser lets this page send no notifications" : "");
}

function notify(words) {
  try {
    new Notification(words, { body: tell.dataset.about, tag: location.pathname });
  } catch {
    // some phones have notifications for installed apps only; the sound and the page say it, too
  }
}

async function look() {
  if (isTold || headline.dataset.state !== tell.dataset.ready) return;
  isTold = true;
  const words = headline.querySelector("[data-say]").textContent.trim();
  if (notifies) notify(words);
  if (sound) {
    await sound.resume(); // it may have been laid to rest behind other pages
    beep(BEEPS, 0.5);
    navigator.vibrate?.([300, 150, 300]);
    document.documentElement.dataset.sounded = "";
  }
  tell.hidden = true;
}

const switches = { sound: switchSound, notice: switchNotice };
for (const button of tell.querySelectorAll("[data-by]")) {
  button.addEventListener("click", () => switches[button.dataset.by](button));
}
if (!("AudioContext" in window)) tell.querySelector("[data-by=sound]").remove();
if (!("Notification" in window)) tell.querySelector("[data-by=notice]").remove();
tell.hidden = false;
new MutationObserver(look).observe(headline, { attributes: true, attributeFilter: ["data-state"] });
look();
