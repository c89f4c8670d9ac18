// What every page has: theme, keyboard, and the live hop map. No framework, no build step, nothing inline (CSP).
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const REFRESH_KEY = "spillway-refresh";

  // -- theme: the server renders it from the cookie, so that nothing flashes
  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  $("#theme")?.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    document.cookie = `theme=${theme}; path=/; max-age=31536000; samesite=strict`;
    document.dispatchEvent(new Event("themed"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themed")));

  // -- refreshing: one clock; who wants to be refreshed adds a function. A round begins when the last has ended.
  const refreshers = [];
  let paused = false, busy = false, timer = 0;
  const fresh = $("#fresh"), pause = $("#pause"), controls = $("#controls");
  function everySeconds() {
    return Number(controls?.elements.refresh?.value ?? 5);
  }
  async function refresh() {
    if (busy) return;
    busy = true;
    clearTimeout(timer);
    const answers = await Promise.allSettled(refreshers.map((each) => each()));
    busy = false;
    const failed = answers.some((each) => each.status === "rejected");
    if (fresh) {
      fresh.textContent = failed ? "the console does not answer" : `as of ${new Date().toISOString().slice(11, 19)} UTC`;
      fresh.classList.toggle("state-bad", failed);
    }
    document.body.classList.toggle("stale", failed);
    document.body.dataset.rounds = String(Number(document.body.dataset.rounds ?? 0) + 1);
    schedule();
  }
  function schedule() {
    clearTimeout(timer);
    const seconds = everySeconds();
    if (!paused && seconds > 0 && !document.hidden && refreshers.length) timer = setTimeout(refresh, seconds * 1000);
  }
  function setPaused(value) {
    paused = value;
    pause?.setAttribute("aria-pressed", String(paused));
    if (pause) pause.textContent = paused ? "Resume" : "Pause";
    if (!paused) refresh(); else clearTimeout(timer);
  }
  pause?.addEventListener("click", () => setPaused(!paused));
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) refresh(); });
  window.spillway = { refreshers, refresh, isDark };

  if (controls) {
    const kept = localStorage.getItem(REFRESH_KEY);
    if (kept && [...controls.elements.refresh.options].some((each) => each.value === kept)) controls.elements.refresh.value = kept;
    controls.addEventListener("change", (event) => {
      if (event.target.name === "refresh") { localStorage.setItem(REFRESH_KEY, event.target.value); schedule(); return; }
      const asked = new URLSearchParams(new FormData(controls));
      asked.delete("refresh");
      document.cookie = `range=${asked.get("range")}; path=/; max-age=43200; samesite=strict`;
      history.replaceState(null, "", `${location.pathname}?${asked}`);
      refresh();
    });
    controls.addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
  }

  // -- the hop map
  function put(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
  }
  function setState(element, state) {
    if (!element) return;
    for (const name of ["ok", "near", "bad", "nodata"]) element.classList.toggle(`state-${name}`, name === state);
  }
  const title = document.title;
  function refreshVerdict(said) {
    const verdict = $("#verdict");
    setState(verdict, said.state);
    put($("strong", verdict), said.text);
    const list = $("ul", verdict), now = said.blames.map((each) => {
      const item = document.createElement("li"), link = document.createElement("a");
      item.className = `state-${each.state}`;
      link.textContent = each.title;
      link.href = `/d/spillway-hop-${encodeURIComponent(each.hop)}`;
      item.append(link, `: ${each.text}`);
      return item;
    });
    // What did not change stays: a focused link keeps its focus, a reader is not read to again.
    const before = [...list.children].map((each) => each.textContent).join("\n");
    if (before !== now.map((each) => each.textContent).join("\n")) list.replaceChildren(...now);
    const bad = said.blames.filter((each) => each.state === "bad").length;
    document.title = bad ? `(${bad}) ${title}` : title;
  }
  async function refreshMap() {
    let now;
    try {
      const answer = await fetch("/api/hops", { headers: { accept: "application/json" } });
      if (!answer.ok) throw new Error(String(answer.status));
      now = await answer.json();
    } catch (problem) {
      refreshVerdict({ state: "nodata", text: "The console does not answer: nothing is known", blames: [] });
      for (const box of all("[data-hop]")) {
        setState(box, "nodata");
        put($(".words", box), "no data");
        for (const cell of all("[data-signal]", box)) { setState(cell, "nodata"); put(cell, "no data"); }
      }
      throw problem;
    }
    const error = $("#map-error");
    if (error) { error.hidden = !now.error; put(error, now.error); }
    const targets = $("#targets");
    put(targets, now.targets);
    setState(targets, now.targets_state);
    refreshVerdict(now.verdict);
    for (const hop of now.hops) {
      const box = $(`[data-hop="${CSS.escape(hop.name)}"]`);
      if (!box) continue;
      setState(box, hop.state);
      put($(".words", box), hop.words);
      for (const [key, signal] of Object.entries(hop.signals)) {
        const cell = $(`[data-signal="${key}"]`, box);
        put(cell, signal.text);
        setState(cell, signal.state);
      }
    }
  }
  if ($("#map")) refreshers.push(refreshMap);

  // -- parts that the server draws anew: fetched as HTML that it has escaped, put in where nobody is typing
  const skew = Number(document.body.dataset.now ?? 0) ? Number(document.body.dataset.now) - Date.now() / 1000 : 0;
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  function age(seconds) {
    const left = Math.max(0, Math.trunc(seconds)), place = UNITS.findIndex(([scale]) => left >= scale);
    if (place < 0 || place === 3) return `${left} s`;
    const [scale, name] = UNITS[place], [smaller, smallerName] = UNITS[place + 1], rest = Math.trunc((left % scale) / smaller);
    return `${Math.trunc(left / scale)} ${name}` + (rest ? ` ${rest} ${smallerName}` : "");
  }
  function tick() {
    const now = Date.now() / 1000 + skew;
    for (const each of all("time[data-since]")) put(each, age(now - Number(each.dataset.since)));
    for (const each of all("time[data-due]")) {
      const due = Number(each.dataset.due);
      put(each, due > now ? `in ${age(due - now)}` : `due for ${age(now - due)}`);
    }
  }
  const typing = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
  const keyOf = (element) => ["aria-label", "href", "id"].map((name) => element.getAttribute(name)).find(Boolean) ?? element.textContent;
  function putPart(part, drawn) {
    const held = part.contains(document.activeElement) ? [document.activeElement.tagName, keyOf(document.activeElement)] : null;
    const open = all("details[open]", part).map((each) => each.id);
    part.className = drawn.className;
    part.replaceChildren(...drawn.childNodes);
    for (const each of all("details", part)) if (open.includes(each.id)) each.open = true;
    if (held) all("a, button, summary", part).find((each) => each.tagName === held[0] && keyOf(each) === held[1])?.focus();
  }
  async function refreshParts() {
    let drawn;
    try {
      const answer = await fetch(document.body.dataset.parts, { headers: { accept: "text/html" } });
      if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
      drawn = new DOMParser().parseFromString(await answer.text(), "text/html");
    } catch (problem) {
      for (const part of all("[data-part]")) for (const each of [part, ...all(".state-ok", part)]) if (each.matches(".state-ok")) setState(each, "nodata");
      const verdict = $("#alerts-verdict .verdict, #alerts-brief");
      if (verdict) { setState(verdict, "nodata"); put($("strong", verdict), "UNKNOWN: the console does not answer"); }
      throw problem;
    }
    for (const part of all("[data-part]")) {
      const fresh = drawn.getElementById(part.id);
      if (fresh && !typing(part)) putPart(part, fresh);
    }
    tick();
  }
  if (document.body.dataset.parts) { refreshers.push(refreshParts); setInterval(tick, 1000); }

  // -- keyboard
  const help = $("#help");
  $("#help-open")?.addEventListener("click", () => help.showModal());
  function step(by) {
    const lines = all("[data-line] > summary, [data-line] > a, table.results a, tr.line a");
    if (!lines.length) return;
    const at = lines.indexOf(document.activeElement);
    lines[Math.min(lines.length - 1, Math.max(0, at + by))].focus();
  }
  function changeRange(by) {
    const range = controls?.elements.range;
    if (!range) return;
    const next = range.selectedIndex + by;
    if (next < 0 || next >= range.options.length) return;
    range.selectedIndex = next;
    range.dispatchEvent(new Event("change", { bubbles: true }));
  }
  let going = false;
  const keys = {
    "?": () => (help.open ? help.close() : help.showModal()),
    "/": () => $("[data-search]")?.focus(),
    r: () => (refreshers.length ? refresh() : location.reload()),
    p: () => pause && setPaused(!paused),
    "[": () => changeRange(-1),
    "]": () => changeRange(1),
    j: () => step(1),
    k: () => step(-1),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) { if (event.key === "Escape") event.target.blur(); return; }
    if (event.key === "Escape") { for (const each of all("details.about[open]")) each.open = false; return; }
    if (going) {
      going = false;
      const link = $(`header nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); location.href = link.href; }
      return;
    }
    if (event.key === "g") { going = true; setTimeout(() => { going = false; }, 1500); return; }
    const action = keys[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  // One explanation open at a time.
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("details.about") && event.target.open)
      for (const each of all("details.about[open]")) if (each !== event.target) each.open = false;
  }, true);

  addEventListener("load", () => { if (refreshers.length) refresh(); });
})();
