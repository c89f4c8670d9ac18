// A headless Chromium for the console's tests and pictures: launched with a profile of its own, and everything it complains of kept.
import { chromium } from "playwright-core";

export const ANSWERED_MILLIS_MAX = 20_000;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

export async function withBrowser(work) {
  const browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: ARGUMENTS });
  try {
    return await work(browser);
  } finally {
    await browser.close();
  }
}

// A page in a context of its own. `complaints` gathers what the console should never say: errors, refusals of the CSP, failed requests.
export async function newPage(browser, { scheme = "light", width = 1440, height = 900, ...more } = {}) {
  const context = await browser.newContext({
    viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce", timezoneId: "UTC", ...more,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(ANSWERED_MILLIS_MAX);
  const complaints = [];
  page.on("console", (said) => { if (["error", "warning"].includes(said.type())) complaints.push(`${said.type()}: ${said.text()}`); });
  page.on("pageerror", (problem) => complaints.push(`thrown: ${problem.message}`));
  page.on("response", (answer) => { if (answer.status() >= 500) complaints.push(`${answer.status()} ${answer.url()}`); });
  return { context, page, complaints };
}

// Waits until every panel in sight has its answer. Those out of sight are asked for when they come into sight.
export async function answered(page) {
  await page.waitForFunction(() => [...document.querySelectorAll("[data-panel]")].every((panel) => {
    const box = panel.getBoundingClientRect();
    return box.bottom < 0 || box.top > innerHeight || panel.dataset.loaded;
  }));
}

// Makes the window as high as the page, so that one picture holds all of it.
export async function whole(page) {
  for (let round = 0; round < 3; round += 1) {
    const height = await page.evaluate(() => document.documentElement.scrollHeight);
    const now = page.viewportSize();
    if (height <= now.height) break;
    await page.setViewportSize({ width: now.width, height });
    await answered(page);
  }
}
