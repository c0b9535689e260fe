// call.mjs URL: publishes one message with amqplib, waits for the reply and prints it.
// The message comes as one line of JSON on standard input, as for publish.py; replyTo and correlationId are added.
// The reply goes out as JSON: {"properties": {"type": ..., "headers": {...}}, "body": "..."}. Exits with 1 after 30 s without one.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import amqp from "amqplib";
import { message } from "./message.mjs";

const connection = await amqp.connect(process.argv[2]);
const channel = await connection.createConfirmChannel();
const { queue } = await channel.assertQueue("", { exclusive: true });
const [line] = await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next().then((next) => [next.value]);
const [exchange, routingKey, body, options] = message(line);
const correlationId = randomUUID();
const patience = setTimeout(() => {
  console.error("no reply within 30 s");
  process.exit(1);
}, 30_000);
const reply = new Promise((resolve) => {
  channel.consume(queue, (got) => got?.properties.correlationId === correlationId && resolve(got), { noAck: true });
});
channel.publish(exchange, routingKey, body, { ...options, replyTo: queue, correlationId });
await channel.waitForConfirms();
const { properties, content } = await reply;
clearTimeout(patience);
const known = Object.fromEntries(Object.entries(properties).filter(([, value]) => value !== undefined));
console.log(JSON.stringify({ properties: known, body: content.toString() }));
await connection.close();
