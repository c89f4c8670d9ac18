// What an engineer on call does with the console, in a real browser. Prints what was seen, as JSON; test_browser.py judges it.
//   node walk.mjs '{"console": "http://...", "away": "http://...", "hostile": "/trace/...", "pages": ["/"], "units": [[1.5, {...}]]}'
import { answered, newPage, whole, withBrowser } from "./browser.mjs";

const asked = JSON.parse(process.argv[2]);
const TAB_STOPS_MAX = 60;

const active = (page) => page.evaluate(() => {
  const element = document.activeElement, box = element.getBoundingClientRect(), look = getComputedStyle(element);
  return {
    name: element.getAttribute("aria-label") || element.labels?.[0]?.textContent.trim() || element.textContent.trim(),
    tag: element.tagName.toLowerCase(), href: element.getAttribute("href") ?? "", id: element.id,
    ringed: look.outlineStyle !== "none" && parseFloat(look.outlineWidth) >= 2,
    inSight: box.width > 0 && box.height > 0 && box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight,
  };
});
const path = (page) => { const url = new URL(page.url()); return url.pathname + url.search; };

// -- from a latency spike to its trace to its log line, and back

async function spike(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${asked.console}/d/spillway-hop-lake`);
  const panel = page.locator("[data-panel]", { hasText: "Latency:" }).first();
  const highest = panel.locator(".dot").first();
  await highest.waitFor();
  const dots = await panel.locator(".dot").evaluateAll((all) => all.map((each) => ({ href: each.getAttribute("href"), label: each.title, y: each.offsetTop })));
  dots.sort((a, b) => a.y - b.y);
  await panel.locator(`.dot[href="${dots[0].href}"]`).first().click();
  await page.waitForURL("**/trace/*");
  const trace = {
    path: path(page),
    longest: await page.locator(".span.longest .name b").textContent(),
    facts: await page.locator(".facts").innerText(),
    hops: await page.locator(".span:not(.part) .name b").evaluateAll((all) => all.map((each) => each.firstChild.textContent)),
    lines: await page.locator("table.logs tbody tr").evaluateAll((all) => all.map((each) => each.innerText)),
  };
  await page.getByRole("link", { name: "Search these lines" }).click();
  await page.waitForURL("**/logs*");
  const line = page.locator("table.logs tbody tr").first();
  const logs = { path: path(page), line: await line.innerText() };
  await line.locator("a").last().click();
  await page.waitForURL("**/trace/*");
  const seen = { dot: dots[0], trace, logs, back: path(page), complaints };
  await context.close();
  return seen;
}

async function leads(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${asked.console}/d/spillway-hop-lake?range=5m`);
  await answered(page);
  await page.locator("[data-panel]", { hasText: "Latency:" }).first().getByRole("link", { name: "traces" }).click();
  await page.waitForURL("**/traces*");
  const traces = { found: await page.locator("table.results tbody tr").count(), chosen: await page.locator(".chosen").innerText() };
  await page.goBack();
  await page.locator("[data-panel]").first().getByRole("link", { name: "runbook" }).click();
  await page.waitForURL("**/runbooks/*");
  const seen = { traces, runbook: path(page), complaints };
  await context.close();
  return seen;
}

// -- by keyboard alone

async function keyboard(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${asked.console}/`);
  await answered(page);
  await page.keyboard.press("p");
  const stops = [];
  for (let count = 0; count < TAB_STOPS_MAX; count += 1) {
    await page.keyboard.press("Tab");
    stops.push(await active(page));
  }
  await page.goto(`${asked.console}/`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  const skipped = (await active(page)).id;
  const seen = { stops, skipped, went: {}, complaints };
  for (const key of ["t", "l", "d", "o"]) {
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await page.waitForURL(key === "o" ? `${asked.console}/` : `**/${{ t: "traces", l: "logs", d: "dashboards" }[key]}`);
    seen.went[key] = path(page);
  }
  await page.keyboard.press("?");
  seen.helpOpen = await page.locator("#help").evaluate((each) => each.open);
  await page.keyboard.press("Escape");
  seen.helpClosed = await page.locator("#help").evaluate((each) => !each.open);
  await page.goto(`${asked.console}/traces`);
  await page.keyboard.press("/");
  seen.search = (await active(page)).name;
  await page.keyboard.type("gt");
  seen.typed = path(page);
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  seen.line = (await active(page)).href;
  seen.second = await page.locator("table.results tbody a").nth(1).getAttribute("href");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/trace/*");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  seen.opened = await page.locator("details.span[open]").count();
  await page.keyboard.press("j");
  await page.keyboard.press("k");
  seen.span = await page.evaluate(() => [...document.querySelectorAll("details.span > summary")].indexOf(document.activeElement));
  await context.close();
  return seen;
}

async function dashboardKeys(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${asked.console}/d/spillway-hop-lake`);
  await answered(page);
  await page.keyboard.press("]");
  const longer = path(page);
  await page.goto(`${asked.console}/d/spillway-hop-redactor`);
  const kept = await page.locator("[name=range]").inputValue();
  await page.keyboard.press("[");
  await page.keyboard.press("[");
  const shorter = path(page);
  await page.keyboard.press("p");
  const paused = await page.locator("#pause").textContent();
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  const about = await page.locator("details.about[open]").count();
  await page.keyboard.press("Escape");
  const closed = await page.locator("details.about[open]").count();
  await page.goto(`${asked.console}/d/spillway-hop-lake?range=15m`);
  await answered(page);
  await page.keyboard.press("p");
  await page.locator("[data-panel]", { hasText: "Latency:" }).first().locator("summary").focus();
  await page.keyboard.press("Tab");
  const dot = await active(page);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/trace/*");
  await context.close();
  return { longer, kept, shorter, paused, about, closed, dot, trace: path(page), complaints };
}

// -- how it looks

const LOOK = () => {
  const hidden = new Set(["script", "style", "noscript", "template"]);
  const cut = (each) => each.scrollWidth > each.clientWidth + 1;
  const controls = [...document.querySelectorAll("a, button, select, input:not([type=hidden]), summary, [tabindex='0']")];
  const named = (each) => each.getAttribute("aria-label") || each.labels?.length || each.textContent.trim() || each.closest("[aria-label]");
  return {
    wide: document.documentElement.scrollWidth - innerWidth,
    cut: [...document.querySelectorAll(".hop dd, .hop h3 a, .numbers dd, .facts dd")].filter(cut).map((each) => each.textContent),
    nameless: controls.filter((each) => !hidden.has(each.tagName.toLowerCase()) && !named(each)).map((each) => each.outerHTML.slice(0, 120)),
    twice: [...document.querySelectorAll("[id]")].map((each) => each.id).filter((id, at, all) => all.indexOf(id) !== at),
    background: getComputedStyle(document.body).backgroundColor,
  };
};

async function looks(browser) {
  const seen = {};
  for (const view of [{ scheme: "light", width: 1440 }, { scheme: "dark", width: 1024 }, { scheme: "light", width: 400, height: 800 }]) {
    const { page, context, complaints } = await newPage(browser, view);
    for (const each of asked.pages) {
      await page.goto(asked.console + each);
      await whole(page);
      await answered(page);
      const waiting = await page.locator("[data-panel]:not([data-loaded=yes])").evaluateAll((all) => all.map((panel) => panel.innerText));
      seen[`${view.scheme} ${view.width} ${each}`] = { ...await page.evaluate(LOOK), waiting, complaints: [...complaints] };
      await page.setViewportSize({ width: view.width, height: view.height ?? 900 });
    }
    await context.close();
  }
  return seen;
}

async function theme(browser) {
  const { page, context, complaints } = await newPage(browser, { scheme: "light" });
  await page.goto(`${asked.console}/d/spillway-hop-lake`);
  await answered(page);
  const look = () => page.evaluate(() => [document.documentElement.dataset.theme ?? "", getComputedStyle(document.body).backgroundColor, document.querySelector(".legend .swatch")?.style.background]);
  const before = await look();
  await page.getByRole("button", { name: "Theme" }).click();
  await page.waitForFunction((color) => document.querySelector(".legend .swatch").style.background !== color, before[2]);
  const after = await look();
  await page.reload();
  await answered(page);
  const seen = { before, after, reloaded: await look(), complaints };
  await context.close();
  return seen;
}

// -- when something is away

async function away(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${asked.away}/`);
  await answered(page);
  const seen = {
    verdict: await page.locator("#verdict").innerText(), error: await page.locator("#map-error").innerText(),
    panel: await page.locator("[data-panel] .body").first().innerText(), green: await page.locator(".state-ok").count(), complaints,
  };
  await context.close();
  return seen;
}

async function consoleGone(browser) {
  const { page, context } = await newPage(browser);
  await page.goto(`${asked.console}/`);
  await answered(page);
  await page.waitForFunction(() => Number(document.body.dataset.rounds) >= 1);
  const before = await page.locator("#fresh").innerText();
  await context.setOffline(true);
  await page.keyboard.press("r");
  await page.waitForFunction(() => document.querySelector("#fresh").textContent === "the console does not answer");
  const seen = { before, verdict: await page.locator("#verdict").innerText(), green: await page.locator(".hop.state-ok").count() };
  await context.setOffline(false);
  await page.keyboard.press("r");
  await page.waitForFunction(() => document.querySelector("#fresh").textContent.startsWith("as of"));
  seen.after = await page.locator(".hop.state-nodata").count();
  await context.close();
  return seen;
}

async function hostile(browser) {
  const { page, context, complaints } = await newPage(browser);
  let dialogs = 0;
  page.on("dialog", (each) => { dialogs += 1; each.dismiss(); });
  await page.goto(asked.console + asked.hostile);
  await page.locator(".span").evaluateAll((all) => all.forEach((each) => { each.open = true; }));
  const seen = { title: await page.title(), images: await page.locator("img").count(), dialogs, shown: await page.locator("main").innerText(), complaints };
  await context.close();
  return seen;
}

async function units(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${asked.console}/d/spillway-cost`);
  const texts = await page.evaluate((cases) => cases.map(([value, unit]) => window.spillway_units.format(value, unit)), asked.units);
  await context.close();
  return { texts, complaints };
}

const SCENES = { spike, leads, keyboard, dashboardKeys, looks, theme, away, consoleGone, hostile, units };
const seen = await withBrowser(async (browser) => {
  const all = {};
  for (const [name, scene] of Object.entries(SCENES)) {
    if (asked.scenes && !asked.scenes.includes(name)) continue;
    try {
      all[name] = await scene(browser);
    } catch (problem) {
      all[name] = { failed: String(problem.stack ?? problem) };
    }
  }
  return all;
});
console.log(JSON.stringify(seen));
