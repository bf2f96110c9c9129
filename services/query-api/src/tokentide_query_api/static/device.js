"use strict";

// The access token stays in this page: it is gone when the page is left, and ended when it is done.
let token = "";
let code = "";
const login = document.querySelector("#login");
const lookup = document.querySelector("#lookup");
const decision = document.querySelector("#decision");
const output = document.querySelector("output");

async function ask(path, body) {
  const headers = { accept: "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const request = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  if (body) headers["content-type"] = "application/json";
  const answer = await fetch(`api/v1/${path}`, { ...request, credentials: "omit", redirect: "error" });
  const told = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told;
}

function say(text) {
  output.textContent = text;
}

async function attempt(work) {
  say("");
  try {
    await work();
  } catch (error) {
    say(error.message);
  }
}

function enter(session) {
  token = session.access_token;
  login.hidden = true;
  lookup.hidden = false;
  document.querySelector("#who").textContent =
    `You are ${session.user.email} in ${session.organisation.name}.`;
}

login.addEventListener("submit", (event) => {
  event.preventDefault();
  const { email, password } = login.elements;
  attempt(async () => {
    enter(await ask("auth/login", { email: email.value, password: password.value }));
    password.value = "";
  });
});

// First which machine it is, and from where it asks; nothing is decided before that was on the screen.
lookup.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    code = lookup.elements.code.value;
    const waiting = await ask("auth/device/lookup", { user_code: code });
    const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(waiting.asked_at)) / 60000));
    document.querySelector("#machine").textContent = waiting.machine_name || waiting.machine_id;
    document.querySelector("#address").textContent = waiting.address;
    document.querySelector("#age").textContent =
      minutes === 0 ? "less than a minute ago" : `${minutes} min ago`;
    lookup.hidden = true;
    decision.hidden = false;
  });
});

decision.addEventListener("submit", (event) => {
  event.preventDefault();
  const pressed = event.submitter?.value;
  if (pressed !== "approve" && pressed !== "deny") return;
  attempt(async () => {
    const approve = pressed === "approve";
    const decided = await ask("auth/device/decision", { user_code: code, approve });
    await ask("auth/logout", {});
    token = "";
    decision.hidden = true;
    const name = decided.machine_name || decided.machine_id;
    say(`${decided.approved ? "Approved" : "Denied"}: ${name}, which asked from ${decided.address}.`);
  });
});

async function begin() {
  const ticket = new URLSearchParams(location.hash.slice(1)).get("ticket");
  history.replaceState(null, "", location.pathname);
  if (ticket) {
    enter(await ask("auth/oidc/token", { ticket }));
    return;
  }
  login.hidden = false;
  for (const provider of (await ask("auth/oidc")).items) {
    const link = document.createElement("a");
    link.href = `${provider.start.slice(1)}?return_to=device`;
    link.textContent = provider.title;
    const item = document.createElement("li");
    item.append(link);
    document.querySelector("#providers").append(item);
  }
}

attempt(begin);
