// Gives a picture: from a file, a drop, the clipboard or the webcam, as bytes to /picture; its token and the engines
// that are chosen go to Gradio.
const find = (name) => element.querySelector(`[data-${name}]`);
const file = element.querySelector("input[type=file]");
const drop = find("drop"), live = find("live"), video = element.querySelector("video");
const [engine, beside] = element.querySelectorAll("select");
let given = "", gifts = 0, newest = 0, shown = 0;

function say(text, wrong = "") {
  find("said").textContent = text;
  find("error").textContent = wrong;
  find("error").hidden = !wrong;
}

function ask() {
  if (given) trigger("asked", { token: given, engine: engine.value, beside: beside.value, number: ++newest });
}

// Answers may come in another order than they were asked for: an older one must not stay in the place of the newest.
document.addEventListener("edgepress-answer", ({ detail: { number, said } }) => {
  const overwritten = number < newest && shown === newest;
  shown = number;
  if (overwritten) ask();
  else if (number === newest) say(said);
});

async function give(blob, name) {
  const gift = ++gifts;
  if (!blob.size) {
    say("", `${name}: the file is empty.`);
    return;
  }
  if (blob.size > MAX_UPLOAD) {
    say("", `${name}: ${(blob.size / 1e6).toFixed(1)} MB. Pictures are taken up to ${(MAX_UPLOAD / 1e6).toFixed(0)} MB.`);
    return;
  }
  say(`Asking about ${name}…`);
  try {
    const answer = await fetch(`picture?name=${encodeURIComponent(name.slice(0, 100))}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: blob,
    });
    const { token, error } = await answer.json();
    if (gift !== gifts) return; // another picture was given while this one was sent: it takes this one's place
    if (error) say("", error);
    else {
      given = token;
      ask();
    }
  } catch (error) {
    if (gift === gifts) say("", `The demo's server does not answer (${error.message}). Is it still running?`);
  }
}

for (const choice of [engine, beside]) choice.addEventListener("change", ask);
file.addEventListener("change", () => {
  if (file.files.length) give(file.files[0], file.files[0].name);
  file.value = ""; // the same file may be chosen again
});
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const dropped = event.dataTransfer.files[0];
  if (dropped) give(dropped, dropped.name);
  else say("", "No file was dropped. Drop a picture from a folder; a link to one is not followed.");
});
document.addEventListener("paste", (event) => {
  const pasted = event.clipboardData.files[0];
  if (pasted) give(pasted, pasted.name || "pasted picture");
});

function stop() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  live.hidden = true;
  find("camera").focus();
}
find("camera").addEventListener("click", async () => {
  if (!navigator.mediaDevices) {
    say("", "Browsers give the webcam only to pages from this machine (127.0.0.1) or over https.");
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    await video.play(); // before that there is no picture to take
    live.hidden = false;
    find("shoot").focus();
  } catch (error) {
    say("", `No webcam: ${error.message}.`);
  }
});
find("stop").addEventListener("click", stop);
find("shoot").addEventListener("click", () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  stop();
  canvas.toBlob((blob) => give(blob, "webcam picture"), "image/jpeg", 0.95);
});
