// Pictures of every page of a running console: dark, light, and on a narrow screen; or small ones of what is seen first.
//   node screenshots.mjs '{"console": "http://127.0.0.1:8088", "out": "pictures", "token": "", "trace": "", "only": ""}'
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { answered, newPage, whole, withBrowser } from "./browser.mjs";

const SLOWEST = "/traces?since=24h&min_duration=10s";
const VIEWS = [
  { name: "light", scheme: "light", width: 1440, height: 900 },
  { name: "dark", scheme: "dark", width: 1440, height: 900 },
  { name: "narrow", scheme: "light", width: 400, height: 800 },
];
// As documents show them.
const SMALL = { name: "", scheme: "light", width: 1200, height: 760, deviceScaleFactor: 0.6 };
const asked = JSON.parse(process.argv[2]);
mkdirSync(asked.out, { recursive: true });

async function someTrace(page) {
  for (const search of [SLOWEST, "/traces?since=24h"]) {
    await page.goto(asked.console + search);
    const first = page.locator("table.results a").first();
    if (await first.count()) return first.getAttribute("href");
  }
  return "";
}

async function take(page, name, { full = !asked.small } = {}) {
  if (full) await whole(page);
  await answered(page);
  const path = join(asked.out, `${name}.png`);
  await page.screenshot({ path });
  console.log(path);
}

const headers = asked.token ? { authorization: `Bearer ${asked.token}` } : {};
await withBrowser(async (browser) => {
  const finder = await newPage(browser, { extraHTTPHeaders: headers });
  const trace = asked.trace ? `/trace/${asked.trace}` : await someTrace(finder.page);
  await finder.context.close();
  const pages = [
    ["overview", "/"], ["hop-lake", "/d/spillway-hop-lake"], ["hop-redactor", "/d/spillway-hop-redactor"],
    ["delivery", "/d/spillway-delivery"], ["capacity", "/d/spillway-capacity"], ["cost", "/d/spillway-cost"],
    ["telemetry", "/d/spillway-telemetry"], ["dashboards", "/dashboards"], ["alerts", "/alerts"], ["slo", "/d/spillway-slo"], ["traces", "/traces"], ["logs", "/logs"],
    ["canary", "/canary"], ["ledger", "/ledger"],
    ...(trace ? [["trace", trace]] : []),
  ].filter(([name]) => !asked.only || asked.only.split(",").includes(name));
  const views = asked.small ? [SMALL] : VIEWS.filter((each) => !asked.views || asked.views.split(",").includes(each.name));
  for (const view of views) {
    for (const [name, path] of pages) {
      const { context, page, complaints } = await newPage(browser, { ...view, extraHTTPHeaders: headers });
      await page.goto(asked.console + path, { waitUntil: "load" });
      await take(page, view.name ? `${name}-${view.name}` : name);
      if (name === "trace" && !asked.small) {
        await page.locator(".span summary").nth(1).press("Enter");
        await take(page, `${name}-open-${view.name}`);
      }
      for (const each of complaints) console.error(`${path}: ${each}`);
      await context.close();
    }
  }
});
