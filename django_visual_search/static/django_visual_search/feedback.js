/* django-visual-search: reports which hits of a search were seen and clicked, so that ranking can learn from them.

   No cookies, no storage, no dependency, nothing inline. It finds hits by their markup, whenever they are added:

     <ul data-visual-search-token="..." data-visual-search-url="...">        {% feedback_attributes items %}
       <li data-visual-search-hit>
         <a href="..." data-visual-search-product="12">...</a>
         <button type="button" data-visual-search-dismiss="12">Not for me</button>

   Buttons with data-visual-search-favourite and -cart report too, and links with -more report a click; a dismissed hit
   is removed from the page. Buttons of a form with data-visual-search-reactions, which sends them on pages without
   scripts, then don't send it. A hit counts as seen once half of it was visible for a second. Nothing is reported about
   visitors who ask not to be tracked (Global Privacy Control, Do Not Track). */
(() => {
  "use strict";

  if (window.visualSearchFeedback) return; // loaded twice
  window.visualSearchFeedback = true;

  const LIST = "[data-visual-search-token][data-visual-search-url]";
  const HIT = "[data-visual-search-product]";
  const BUTTONS = {
    visualSearchDismiss: "skip",
    visualSearchFavourite: "favourite",
    visualSearchCart: "cart",
    visualSearchMore: "click",
  };
  const BUTTON = ["dismiss", "favourite", "cart", "more"].map((name) => `[data-visual-search-${name}]`).join();
  const SEEN = 1000; // milliseconds that a hit must be visible
  const BATCH = 3000; // milliseconds that impressions wait for others
  const MOST = 50; // events in one message
  const silent = navigator.globalPrivacyControl === true || navigator.doNotTrack === "1";

  const waiting = new Map(); // token -> { url, events }
  const reported = new Set(); // "token kind product"
  let sending = 0;

  function report(element, kind, product) {
    const list = element.closest(LIST);
    if (silent || !list || !product) return;
    const { visualSearchToken: token, visualSearchUrl: url } = list.dataset;
    const name = `${token} ${kind} ${product}`;
    if (reported.has(name)) return;
    reported.add(name);
    if (!waiting.has(token)) waiting.set(token, { url, events: [] });
    waiting.get(token).events.push({ kind, product });
    sending ||= setTimeout(flush, BATCH);
  }

  function flush() {
    clearTimeout(sending);
    sending = 0;
    for (const [token, { url, events }] of waiting) {
      for (let i = 0; i < events.length; i += MOST) {
        send(url, JSON.stringify({ token, events: events.slice(i, i + MOST) }));
      }
    }
    waiting.clear();
  }

  function send(url, body) {
    // Text, which needs no preflight to another origin.
    if (navigator.sendBeacon && navigator.sendBeacon(url, body)) return;
    fetch(url, { method: "POST", body, keepalive: true }).catch(() => {});
  }

  // Seen

  const unseen = new Map(); // hit -> timer, while it is visible
  const observed = new WeakMap(); // hit -> token and product

  const sight = new IntersectionObserver((entries) => {
    for (const { target, intersectionRatio } of entries) {
      if (!unseen.has(target)) continue;
      clearTimeout(unseen.get(target));
      unseen.set(target, intersectionRatio >= 0.5 ? setTimeout(see, SEEN, target) : 0);
    }
  }, { threshold: 0.5 });

  function see(hit) {
    unseen.delete(hit);
    sight.unobserve(hit);
    report(hit, "impression", hit.dataset.visualSearchProduct);
  }

  function look(hit) {
    sight.unobserve(hit); // observing it again reports at once whether it is visible
    clearTimeout(unseen.get(hit));
    unseen.set(hit, 0);
    sight.observe(hit);
  }

  function scan() {
    for (const hit of unseen.keys()) {
      if (hit.isConnected) continue;
      clearTimeout(unseen.get(hit));
      unseen.delete(hit);
      sight.unobserve(hit);
    }
    for (const hit of document.querySelectorAll(`${LIST} ${HIT}`)) {
      const standsFor = `${hit.closest(LIST).dataset.visualSearchToken} ${hit.dataset.visualSearchProduct}`;
      if (observed.get(hit) === standsFor) continue;
      observed.set(hit, standsFor);
      look(hit);
    }
  }

  let scanning = 0;
  new MutationObserver(() => {
    scanning ||= setTimeout(() => { scanning = 0; scan(); }, 100);
  }).observe(document.documentElement, {
    childList: true,
    subtree: true,
    attributeFilter: ["data-visual-search-token", "data-visual-search-product"],
  });
  scan();

  // Clicked: by mouse, finger or keyboard, or by the middle button, which opens a tab

  function clicked(event) {
    if (!(event.target instanceof Element) || event.button > 1) return;
    const button = event.target.closest(BUTTON);
    if (button) {
      if (event.button === 0 || "visualSearchMore" in button.dataset) pressed(button);
      if (button.form?.hasAttribute("data-visual-search-reactions")) event.preventDefault();
      return;
    }
    const hit = event.target.closest(HIT);
    const link = event.target.closest("a[href]");
    if (!hit || !link || !(hit.contains(link) || link.contains(hit))) return;
    report(hit, "click", hit.dataset.visualSearchProduct);
    flush();
  }

  function pressed(button) {
    for (const [name, kind] of Object.entries(BUTTONS)) {
      if (name in button.dataset) report(button, kind, button.dataset[name]);
    }
    flush();
    if (button.hasAttribute("aria-pressed")) button.setAttribute("aria-pressed", "true");
    if ("visualSearchDismiss" in button.dataset) remove(button);
  }

  function remove(button) {
    const list = button.closest(LIST);
    const buttons = list ? [...list.querySelectorAll("[data-visual-search-dismiss]")] : [];
    const next = buttons[buttons.indexOf(button) + 1] || buttons[buttons.indexOf(button) - 1];
    button.closest("[data-visual-search-hit]")?.remove();
    if (!button.isConnected) next?.focus(); // keyboard users keep their place
  }

  // In the capture phase, before a shop's own script may stop the event
  document.addEventListener("click", clicked, true);
  document.addEventListener("auxclick", clicked, true);

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      for (const [hit, timer] of unseen) {
        clearTimeout(timer);
        unseen.set(hit, 0);
      }
      flush();
    } else {
      for (const hit of unseen.keys()) look(hit);
    }
  });
  window.addEventListener("pagehide", flush); // Safari may send only this when a link is followed
})();
