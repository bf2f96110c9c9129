"use strict";

// What the link ends with is good once. It leaves the address at once, and so the history.
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
history.replaceState(null, "", location.pathname);
const output = document.querySelector("output");
const form = document.getElementById(location.pathname.split("/").pop());

async function ask(path, body, bearer = "") {
  const headers = { accept: "application/json", "content-type": "application/json" };
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  const request = { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(`api/v1/${path}`, { ...request, credentials: "omit", redirect: "error" });
  const told = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told;
}

const work = {
  async "verify-email"() {
    await ask("auth/verify-email", { token });
    return "Your e-mail address is confirmed.";
  },
  async "reset-password"({ password }) {
    await ask("auth/password/reset", { token, password: password.value });
    return "Your password is changed. Log in with it.";
  },
  async "accept-invitation"({ email, name, password }) {
    const joined = await ask("auth/signup", {
      email: email.value,
      display_name: name.value,
      password: password.value,
      invitation: token,
    });
    // Nobody works on this page.
    await ask("auth/logout", {}, joined.access_token);
    return `You belong to ${joined.organisation.name} now. Log in to begin.`;
  },
};

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  output.textContent = "";
  try {
    output.textContent = await work[form.id](form.elements);
    form.hidden = true;
  } catch (error) {
    output.textContent = error.message;
  }
});

if (token) {
  form.hidden = false;
} else {
  output.textContent = "This address is not complete: take the whole link from the letter.";
}
