"use strict";
// Everything here makes a page nicer that works without it.

// Times in the viewer's zone; UTC stays in the title.
const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const time = new Date(element.dateTime);
    if (!Number.isNaN(time.valueOf())) element.textContent = zone.format(time);
  }
}
showTimes(document);

// A button that copies what stands in a block.
if (navigator.clipboard) {
  for (const block of document.querySelectorAll(".copyable")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.querySelector("code").textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select and copy by hand";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.append(button);
  }
}

// The playground: the answer as it comes. Without this the form shows it whole.
const playground = document.querySelector("form.playground");
if (playground) {
  const card = document.querySelector("#answer");
  const text = card.querySelector("pre");
  const note = card.querySelector("p");
  const stop = card.querySelector("button");
  let running = null;
  stop.addEventListener("click", () => running?.abort());
  const read = (line) => {
    if (!line.startsWith("data:")) return;
    const data = line.slice(5).trim();
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message);
    text.append(event.choices?.[0]?.delta?.content ?? "");
  };
  playground.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    const fields = new FormData(playground);
    const messages = [{ role: "user", content: fields.get("message") }];
    if (fields.get("system")) messages.unshift({ role: "system", content: fields.get("system") });
    running = new AbortController();
    card.hidden = false;
    stop.hidden = false;
    text.textContent = "";
    note.textContent = "Waiting for the model\u2026";
    const began = performance.now();
    try {
      const response = await fetch(playground.action, {
        method: "POST",
        headers: { "content-type": "application/json", "x-form-token": fields.get("form-token") },
        body: JSON.stringify({ model: fields.get("model"), messages, stream: true }),
        signal: running.signal,
      });
      if (!response.ok) {
        const failure = await response.json().catch(() => null);
        throw new Error(failure?.error?.message ?? failure?.message ?? `The gateway answered ${response.status}`);
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const lines = (rest + value).split(/\r?\n/);
        rest = lines.pop();
        lines.forEach(read);
        note.textContent = "";
      }
      read(rest);
      note.textContent = `${((performance.now() - began) / 1000).toFixed(1)} seconds`;
    } catch (error) {
      note.textContent = error.name === "AbortError" ? "Stopped" : error.message;
    } finally {
      running = null;
      stop.hidden = true;
    }
  });
}

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
