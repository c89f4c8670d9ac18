// A client of Spillway's gRPC door for Node.
//
// Rules, the same as the Python SDK's: an event's id is made once, before the first attempt; only what is unanswered or answered
// RETRY is sent again, with the same id; a number of statuses other than that of the events acknowledges none; waits are full
// jitter plus what the collector asks for; a deadline ends it all. No spool: what must outlive the process is the caller's.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const DESCRIPTORS = new URL("./gen/spillway.binpb", import.meta.url);
const TYPES = loader.loadFileDescriptorSetFromBuffer(readFileSync(DESCRIPTORS), {
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { Collector: Stub } = grpc.loadPackageDefinition(TYPES).spillway.v1;

export const REQUEST_EVENTS_MAX = 500;
const ATTEMPT_MILLIS_MAX = 10_000;
const WAIT_MILLIS_FIRST = 50;
const WAIT_MILLIS_MAX = 5_000;
const RETRYABLE = new Set([
  grpc.status.UNAVAILABLE,
  grpc.status.RESOURCE_EXHAUSTED,
  grpc.status.DEADLINE_EXCEEDED,
  grpc.status.ABORTED,
  grpc.status.INTERNAL,
  grpc.status.UNKNOWN,
  grpc.status.CANCELLED,
]);

/** A UUID of version 7 (RFC 9562): sorts by the time at which it was made. */
export function newId(millis = Date.now()) {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(millis, 0, 6);
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** A CloudEvent around the fields of an event type, such as "spillway.events.v1.PageViewed". */
export function cloudEvent(type, fields, { subject, id = newId(), source = "/spillway/sdk/node", time = new Date(), traceparent } = {}) {
  const message = TYPES[type];
  if (message?.serialize === undefined) {
    throw new Error(`${type} is not an event type of this client; write the message in proto/ and run make gen`);
  }
  const millis = time.getTime();
  const seconds = Math.floor(millis / 1000);
  const attributes = {
    time: { ce_timestamp: { seconds, nanos: (millis - seconds * 1000) * 1_000_000 } },
    datacontenttype: { ce_string: "application/protobuf" },
  };
  if (subject) attributes.subject = { ce_string: subject };
  if (traceparent) attributes.traceparent = { ce_string: traceparent };
  refuseUnknown(type, fields);
  return { id, source, spec_version: "1.0", type, attributes: entries(attributes), binary_data: message.serialize(fields) };
}

/** From a descriptor set protobufjs makes a map what it is on the wire: a list of entries. Map fields of event types likewise. */
function entries(map) {
  return Object.entries(map).map(([key, value]) => ({ key, value }));
}

/** protobufjs drops a field that it does not know; here that is a mistake, not a choice. */
function refuseUnknown(type, fields) {
  const known = new Set(TYPES[type].type.field.map((field) => field.name));
  const unknown = Object.keys(fields).find((name) => !known.has(name));
  if (unknown !== undefined) {
    throw new Error(`${type} has no field ${unknown}; it has: ${[...known].join(", ")}`);
  }
}

export class Collector {
  constructor(target, apiKey, { delivery = "guaranteed", credentials = grpc.credentials.createInsecure() } = {}) {
    const options = { "grpc.enable_retries": 0, "grpc.max_reconnect_backoff_ms": 2000 };
    // A proxy of the environment can't reach this machine's own ports.
    if (/^(127\.|localhost:|\[::1\]:|unix:)/.test(target)) options["grpc.enable_http_proxy"] = 0;
    this.stub = new Stub(target, credentials, options);
    this.metadata = new grpc.Metadata();
    this.metadata.set("authorization", `Bearer ${apiKey}`);
    this.metadata.set("spillway-delivery", delivery);
    this.guaranteed = delivery === "guaranteed";
  }

  /**
   * Send events; resolves to one answer per event, in order: {id, status: "accepted" | "queued" | "rejected" | "unanswered",
   * reason, message}. "unanswered": the deadline came first, and the event may or may not be stored; send it again with its id.
   * Rejects when the call as such is refused, for a wrong key for example.
   */
  async publish(events, { deadlineMillis = 30_000 } = {}) {
    const deadline = performance.now() + deadlineMillis;
    const answers = new Array(events.length).fill(null);
    let failures = 0;
    let complaint = "nothing was tried before the deadline";
    for (;;) {
      const waiting = [...events.keys()].filter((index) => answers[index] === null);
      if (waiting.length === 0) break;
      let hintMillis = 0;
      for (let at = 0; at < waiting.length && performance.now() < deadline; at += REQUEST_EVENTS_MAX) {
        const indexes = waiting.slice(at, at + REQUEST_EVENTS_MAX);
        try {
          const response = await this.#call(indexes.map((index) => events[index]), deadline);
          hintMillis = Math.max(hintMillis, this.#read(response, indexes, answers));
        } catch (error) {
          if (!RETRYABLE.has(error.code)) throw error;
          complaint = error.message;
          break;
        }
      }
      const left = answers.filter((answer) => answer === null).length;
      if (left === 0) break;
      failures = left === waiting.length ? failures + 1 : 1;
      const ceiling = Math.min(WAIT_MILLIS_MAX, WAIT_MILLIS_FIRST * 2 ** Math.min(failures - 1, 20));
      const waitMillis = Math.max(5, Math.random() * ceiling) + hintMillis;
      if (performance.now() + waitMillis >= deadline) break;
      await sleep(waitMillis);
    }
    return events.map(({ id }, index) => ({ id, ...(answers[index] ?? { status: "unanswered", reason: "", message: complaint }) }));
  }

  #call(events, deadline) {
    const millis = Math.max(1, Math.min(ATTEMPT_MILLIS_MAX, deadline - performance.now()));
    return new Promise((resolve, reject) => {
      this.stub.Publish({ events }, this.metadata, { deadline: Date.now() + millis }, (error, response) =>
        error ? reject(error) : resolve(response),
      );
    });
  }

  /** Put what is final into `answers`; returns how long the collector asks to wait with the rest, in milliseconds. */
  #read(response, indexes, answers) {
    if (response.statuses.length !== indexes.length) return 0;
    const rejections = new Map(response.rejections.map((rejection) => [rejection.index, rejection]));
    let hintMillis = 0;
    response.statuses.forEach((status, place) => {
      const rejection = rejections.get(place);
      const { reason = "", message = "" } = rejection ?? {};
      if (status === "EVENT_STATUS_REJECTED") answers[indexes[place]] = { status: "rejected", reason: reason || "unknown", message };
      else if (rejection !== undefined) hintMillis = Math.max(hintMillis, millisOf(rejection.retry_after));
      else if (status === "EVENT_STATUS_ACCEPTED") answers[indexes[place]] = { status: "accepted", reason, message };
      else if (status === "EVENT_STATUS_QUEUED" && !this.guaranteed) answers[indexes[place]] = { status: "queued", reason, message };
    });
    return hintMillis;
  }

  close() {
    this.stub.close();
  }
}

function millisOf(duration) {
  return duration ? Number(duration.seconds) * 1000 + duration.nanos / 1e6 : 0;
}
