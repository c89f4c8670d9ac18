// Sends events from standard input, one JSON object a line: {"type": ..., "subject": ..., "data": {...}, "id": ..., "time": ...}
// and prints one line per event: its id, what became of it, and why. Ends with 1 if any event was not accepted.
//
//   echo '{"type": "spillway.events.v1.PageViewed", "subject": "user-1", "data": {"page_url": "https://example.com/"}}' \
//     | SPILLWAY_COLLECTOR=127.0.0.1:50051 SPILLWAY_KEY=spw_... node send.mjs

import { createInterface } from "node:readline";
import { Collector, REQUEST_EVENTS_MAX, cloudEvent } from "./collector.mjs";

const { SPILLWAY_COLLECTOR = "127.0.0.1:50051", SPILLWAY_KEY, SPILLWAY_DEMO_KEY, SPILLWAY_DEADLINE_MILLIS = "30000" } = process.env;
const key = SPILLWAY_KEY ?? SPILLWAY_DEMO_KEY;
if (key === undefined) {
  console.error("SPILLWAY_KEY is missing: the API key that names your tenant");
  process.exit(2);
}

const collector = new Collector(SPILLWAY_COLLECTOR, key);
let allAccepted = true;

async function send(events) {
  for (const { id, status, reason, message } of await collector.publish(events, { deadlineMillis: Number(SPILLWAY_DEADLINE_MILLIS) })) {
    allAccepted &&= status === "accepted";
    console.log([id, status, reason, message].filter(Boolean).join("\t"));
  }
}

let batch = [];
let number = 0;
try {
  for await (const line of createInterface({ input: process.stdin })) {
    number += 1;
    if (line.trim() === "") continue;
    try {
      const { type, data, time, ...rest } = JSON.parse(line);
      batch.push(cloudEvent(type, data ?? {}, { ...rest, time: time === undefined ? new Date() : new Date(time) }));
    } catch (error) {
      allAccepted = false;
      console.log(`line ${number}\tnot sent\t${error.message}`);
    }
    if (batch.length === REQUEST_EVENTS_MAX) {
      await send(batch);
      batch = [];
    }
  }
  if (batch.length > 0) await send(batch);
} catch (error) {
  console.error(`the collector refused the call: ${error.message}`);
  allAccepted = false;
} finally {
  collector.close();
}
process.exitCode = allAccepted ? 0 : 1;
