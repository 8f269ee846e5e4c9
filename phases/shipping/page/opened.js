// Modules do not load from a file on disk: then this is all that runs, and it says what to do.
window.addEventListener("DOMContentLoaded", () => {
  if (location.protocol !== "file:") return;
  document.getElementById("loading").hidden = true;
  document.getElementById("note").textContent =
    "Opened as a file, a page may not load its networks: run “just page out=FOLDER serve=8000” and open " +
    "http://127.0.0.1:8000.";
});
