// What each page weighs and how long it takes, with nothing in the cache: bytes as they came over the wire, with all its panels.
//   node weigh.mjs '{"console": "http://127.0.0.1:8088", "paths": ["/", "/traces"], "repeats": 3}'
import { answered, newPage, whole, withBrowser } from "./browser.mjs";

const asked = JSON.parse(process.argv[2]);

async function once(browser, path) {
  const { context, page } = await newPage(browser);
  const wire = await context.newCDPSession(page);
  await wire.send("Network.enable");
  await wire.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0, requests = 0;
  wire.on("Network.loadingFinished", (done) => { bytes += done.encodedDataLength; requests += 1; });
  await page.goto(asked.console + path, { waitUntil: "load" });
  const loadMillis = await page.evaluate(() => performance.getEntriesByType("navigation")[0].loadEventStart);
  await answered(page);
  const drawnMillis = await page.evaluate(() => performance.now());
  await page.keyboard.press("p");
  await whole(page);
  await page.waitForLoadState("networkidle");
  await context.close();
  return { bytes, requests, loadMillis, drawnMillis };
}

const found = await withBrowser(async (browser) => {
  const pages = [];
  for (const path of asked.paths) {
    const rounds = [];
    for (let round = 0; round < (asked.repeats ?? 1); round += 1) rounds.push(await once(browser, path));
    const least = (name) => Math.min(...rounds.map((each) => each[name]));
    const most = (name) => Math.max(...rounds.map((each) => each[name]));
    pages.push({ path, bytes: most("bytes"), requests: most("requests"), loadMillis: least("loadMillis"), drawnMillis: least("drawnMillis") });
  }
  return pages;
});
console.log(JSON.stringify(found));
