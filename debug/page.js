// Fetches the page again and replaces its content in place, so that the focus and the place on the page stay.
(() => {
  const every = Number(document.documentElement.dataset.refresh) * 1000;
  if (!every) return;
  const main = document.querySelector("main"), clock = document.querySelector("#clock"), news = document.querySelector("#news");
  const requests = () => Number(main.querySelector("[data-requests]")?.dataset.requests);
  const busy = () => document.hidden || !document.getSelection().isCollapsed;
  const update = async () => {
    if (busy()) return;
    try {
      const response = await fetch(location.href, {headers: {Accept: "text/html"}});
      const next = new DOMParser().parseFromString(await response.text(), "text/html");
      const before = requests(), focused = main.contains(document.activeElement) && document.activeElement.id;
      main.replaceChildren(...next.querySelector("main").childNodes);
      clock.replaceChildren(...next.querySelector("#clock").childNodes);
      if (focused) document.getElementById(focused)?.focus({preventScroll: true});
      const more = requests() - before;
      if (more > 0) news.textContent = more + (more === 1 ? " more request" : " more requests");
    } catch {
      news.textContent = "The program does not answer.";
    }
  };
  setInterval(update, every);
})();
