/* What makes the login page nicer; it works without. */
"use strict";
(() => {
  const body = document.body;
  const byId = (id) => document.getElementById(id);

  /* Times in the reader's own zone. */
  for (const time of document.querySelectorAll("time[data-when]"))
    time.textContent = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

  const left = byId("left");
  const showLeft = () => {
    const seconds = Math.max(0, Math.round((new Date(left.dateTime) - Date.now()) / 1000));
    const text = seconds >= 90 ? `in ${Math.round(seconds / 60)} minutes` : `in ${seconds} seconds`;
    if (left.textContent !== text) left.textContent = text;
  };
  if (left) {
    showLeft();
    setInterval(showLeft, 1000);
  }

  const copy = byId("copy"), url = byId("url");
  if (copy && url) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(url.value);
        copy.textContent = "Copied";
      } catch {
        url.select();
        copy.textContent = "Press and hold to copy";
      }
    });
  }

  /* One submission is enough. */
  for (const form of document.forms)
    form.addEventListener("submit", () => {
      const button = form.querySelector("button");
      button.disabled = true;
      if (button.dataset.busy) button.textContent = button.dataset.busy;
    });
  addEventListener("pageshow", (event) => event.persisted && location.reload());

  /* Something else has happened: a code given on another device, a login that ended. */
  const look = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch("/login/state", { cache: "no-store", redirect: "error" });
        if (answer.status === 403 || (answer.ok && (await answer.json()).key !== body.dataset.key)) {
          location.replace("/login");
          return;
        }
      } catch { /* the runner is away: look again later */ }
    }
    setTimeout(look, Number(body.dataset.pace));
  };
  if (Number(body.dataset.pace) > 0) setTimeout(look, Number(body.dataset.pace));
})();
