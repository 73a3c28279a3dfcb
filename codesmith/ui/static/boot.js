// Loads the pages. A browser gives up requests when the network changes under it, also those to this machine, and a
// module that failed once is not asked for again: then the page is loaded anew, a few times.

const KEY = "codesmith-boots";
const MOST = 5;

try {
  await import("./main.js");
  sessionStorage.removeItem(KEY);
} catch (error) {
  const boots = Number(sessionStorage.getItem(KEY) ?? 0) + 1;
  sessionStorage.setItem(KEY, String(boots));
  if (boots <= MOST) setTimeout(() => location.reload(), 200 * boots);
  else document.getElementById("main").textContent = `The page could not be loaded: ${error.message}. Reload it.`;
}
