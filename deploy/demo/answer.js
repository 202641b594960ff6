// Tells Gradio which label was pressed, and the giver that an answer has come.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-label]");
  if (!button) return;
  for (const other of element.querySelectorAll("button[data-label]")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
  trigger("pressed", { label: button.dataset.label, token: element.querySelector("[data-token]").dataset.token });
});
watch("value", () => {
  const answer = element.querySelector("[data-said]");
  if (!answer) return;
  const detail = { number: Number(answer.dataset.number), said: answer.dataset.said };
  document.dispatchEvent(new CustomEvent("edgepress-answer", { detail }));
});
