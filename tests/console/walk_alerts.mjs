// What somebody who is paged does with the page of alerts, in a real browser. Prints what was seen, as JSON; test_alerts_browser.py judges it.
//   node walk_alerts.mjs '{"bad": ["http://console", "http://asked"], "quiet": [...]}'
import { newPage, withBrowser } from "./browser.mjs";

const asked = JSON.parse(process.argv[2]);
const [[bad], [quiet, quietAsked]] = [asked.bad, asked.quiet];
const rounds = (page) => page.evaluate(() => Number(document.body.dataset.rounds ?? 0));
const anotherRound = async (page) => {
  const before = await rounds(page);
  await page.keyboard.press("r");
  await page.waitForFunction((count) => Number(document.body.dataset.rounds ?? 0) > count, before);
};
// A round that was under way may have asked before the change: what is waited for is what it must say.
const until = async (page, selector, words) => {
  await page.keyboard.press("r");
  await page.waitForFunction(([where, said]) => document.querySelector(where).textContent.includes(said), [selector, words]);
};
const verdict = (page) => page.locator("#alerts-verdict .verdict").innerText();
const green = (page) => page.locator("main .state-ok").count();
const away = (paths) => fetch(`${quietAsked}/away`, { method: "POST", body: JSON.stringify(paths), headers: { "content-type": "application/json" } });

async function looks(browser) {
  const seen = {};
  for (const view of [{ scheme: "light", width: 1440 }, { scheme: "dark", width: 1024 }, { scheme: "light", width: 400, height: 800 }]) {
    const { page, context, complaints } = await newPage(browser, view);
    for (const [name, url] of [["bad", `${bad}/alerts`], ["quiet", `${quiet}/alerts`], ["silence", `${bad}/alerts/silence?alert=${"1".padStart(16, "0")}`]]) {
      await page.goto(url);
      seen[`${view.scheme} ${view.width} ${name}`] = {
        ...await page.evaluate(() => {
          const named = (each) => each.getAttribute("aria-label") || each.labels?.length || each.textContent.trim();
          return {
            wide: document.documentElement.scrollWidth - innerWidth,
            nameless: [...document.querySelectorAll("a, button, select, input:not([type=hidden]), summary")].filter((each) => !named(each)).map((each) => each.outerHTML.slice(0, 120)),
            twice: [...document.querySelectorAll("[id]")].map((each) => each.id).filter((id, at, all) => all.indexOf(id) !== at),
            background: getComputedStyle(document.body).backgroundColor,
          };
        }),
        complaints: [...complaints],
      };
    }
    await context.close();
  }
  return seen;
}

async function countsDown(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${bad}/alerts`);
  await page.locator("#pause").click();
  const due = page.locator("article time[data-due]").first();
  const before = await due.innerText();
  await page.waitForFunction((text) => document.querySelector("article time[data-due]").textContent !== text, before);
  const seen = { before, after: await due.innerText(), loads: await page.evaluate(() => performance.getEntriesByType("navigation").length), complaints };
  await context.close();
  return seen;
}

async function quietNight(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${quiet}/alerts`);
  const seen = { verdict: await verdict(page), green: await green(page) };
  await away(["/api/pages"]);
  await until(page, "#alerts-verdict", "UNKNOWN");
  seen.away = { verdict: await verdict(page), green: await green(page) };
  await away([]);
  await until(page, "#alerts-verdict", "No page is open");
  seen.back = await verdict(page);
  await context.setOffline(true);
  await page.keyboard.press("r");
  await page.waitForFunction(() => document.querySelector("#fresh").textContent === "the console does not answer");
  seen.gone = { verdict: await verdict(page), green: await green(page) };
  seen.complaints = complaints.filter((each) => !each.includes("ERR_INTERNET_DISCONNECTED"));
  await context.setOffline(false);
  await page.goto(`${quiet}/`);
  seen.overview = await page.locator("#alerts-brief").innerText();
  await away(["/api/v2"]);
  await until(page, "#alerts-brief", "UNKNOWN");
  seen.overviewAway = await page.locator("#alerts-brief").innerText();
  await away([]);
  await context.close();
  return seen;
}

async function acknowledges(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${bad}/`);
  const seen = { overview: await page.locator("#alerts-brief").innerText() };
  await page.keyboard.press("g");
  await page.keyboard.press("a");
  await page.waitForURL("**/alerts");
  await page.locator("article summary").first().click();
  const who = page.locator("article input[name=who]").first();
  await who.focus();
  await page.keyboard.type("ali");
  // Its part is not drawn anew beneath the fingers.
  const before = await rounds(page);
  await page.waitForFunction((count) => Number(document.body.dataset.rounds ?? 0) > count, before);
  await page.keyboard.type("ce");
  seen.typed = await who.inputValue();
  await page.keyboard.press("Tab");
  seen.next = await page.evaluate(() => document.activeElement.textContent);
  await anotherRound(page);
  seen.kept = await page.evaluate(() => document.activeElement.textContent);
  seen.open = await page.locator("article details[open]").count();
  await who.focus();
  await page.keyboard.type("alice");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/alerts?done=acknowledged");
  seen.said = await page.locator("main > .notice").first().innerText();
  seen.verdict = await verdict(page);
  seen.buttons = await page.getByRole("button", { name: /^Acknowledge/ }).count();
  await page.locator("article").first().getByRole("link", { name: "Runbook: CanaryLost" }).click();
  await page.waitForURL("**/runbooks/CanaryLost");
  seen.complaints = complaints.filter((each) => !each.includes("404"));
  await context.close();
  return seen;
}

async function silences(browser) {
  const { page, context, complaints } = await newPage(browser);
  await page.goto(`${bad}/alerts`);
  await page.getByRole("row", { name: /HotShard/ }).getByRole("link", { name: "Silence" }).press("Enter");
  await page.waitForURL("**/alerts/silence?alert=*");
  await page.getByLabel("For").selectOption("4h");
  await page.getByLabel("I am").fill("alice");
  await page.getByLabel("Because").fill("resharding");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/alerts?done=silenced");
  const made = page.locator("#alerts-silences tr", { hasText: "resharding" });
  const seen = { made: await made.innerText() };
  await made.getByRole("button").press("Enter");
  await page.waitForURL("**/alerts?done=ended");
  seen.ended = await made.innerText();
  await context.close();
  return { ...seen, complaints };
}

async function stranger(browser) {
  const { page, context } = await newPage(browser);
  const form = `<form method="post" action="${bad}/alerts/acknowledge"><input name="key" value="ExitStale/1"><input name="who" value="x"><button>go</button></form>`;
  await page.goto(`data:text/html,${encodeURIComponent(form)}`);
  const [answer] = await Promise.all([page.waitForResponse((each) => each.url().endsWith("/acknowledge")), page.locator("button").first().click()]);
  const seen = { status: answer.status(), said: await page.locator("main .notice").first().innerText() };
  await context.close();
  return seen;
}

const SCENES = { looks, countsDown, quietNight, acknowledges, silences, stranger };
console.log(JSON.stringify(await withBrowser(async (browser) => {
  const all = {};
  for (const [name, scene] of Object.entries(SCENES)) {
    try {
      all[name] = await scene(browser);
    } catch (problem) {
      all[name] = { failed: String(problem.stack ?? problem) };
    }
  }
  return all;
})));
