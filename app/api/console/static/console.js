// Keeps the part of a page that is marked as live true, for as long as it can change.
"use strict";
(() => {
    const SECONDS = 2;
    const live = () => document.getElementById("live");
    if (!live()) return;

    const busy = () => live().contains(document.activeElement) && document.activeElement.matches("button, a");

    async function refresh() {
        if (document.hidden || busy()) return;
        const answer = await fetch(location.href, { headers: { "X-Part": "live" }, redirect: "error" });
        if (!answer.ok) throw new Error(answer.statusText);
        const text = await answer.text();
        if (busy()) return;
        const parsed = new DOMParser().parseFromString(text, "text/html").getElementById("live");
        if (parsed) live().replaceWith(parsed);
    }

    async function watch() {
        try {
            await refresh();
            document.body.classList.remove("stale");
        } catch (error) {
            document.body.classList.add("stale");
        }
        if (live().dataset.changes === "yes") setTimeout(watch, SECONDS * 1000);
    }
    if (live().dataset.changes === "yes") setTimeout(watch, SECONDS * 1000);

    document.addEventListener("submit", (event) => {
        const question = event.target.dataset.ask;
        if (question && !window.confirm(question)) event.preventDefault();
    });
})();
