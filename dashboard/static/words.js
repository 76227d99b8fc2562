// A correction in words: what is written in the field under the live picture becomes a short motion of the robot.

const field = document.getElementById("words-field");
const told = document.getElementById("words-told");

function tell(text, refused) {
  told.textContent = text;
  told.classList.toggle("refused", refused);
}

document.getElementById("words").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (!text) return;
  tell("…", false);
  try {
    const response = await fetch("/api/correct", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ text }),
      signal: AbortSignal.timeout(6000),
    });
    const answer = await response.json();
    tell(answer.message ?? "", !answer.ok);
    if (answer.ok) field.select();
  } catch (error) {
    tell(`The page's server did not answer (${error.message}).`, true);
  }
});
// while somebody writes, letters are letters; Escape gives the keys back to their shortcuts, and with nothing written Space stops
field.addEventListener("keydown", (event) => {
  if (event.code === "Space" && !field.value) return;
  event.stopPropagation();
  if (event.key === "Escape") field.blur();
});

export const speak = () => field.focus();

export function renderWords(s) {
  field.disabled = !s || ["stopped", "evaluating"].includes(s.mode);
}
