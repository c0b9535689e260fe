// publish.mjs URL: publishes messages with amqplib and prints how many the broker confirmed.
// One message a line on standard input, as JSON, the same as for publish.py. Exits with 1 if the broker refuses or returns one.
import { createInterface } from "node:readline";
import amqp from "amqplib";
import { message } from "./message.mjs";

const connection = await amqp.connect(process.argv[2]);
const channel = await connection.createConfirmChannel();
let returned = 0;
channel.on("return", () => returned++);
let confirmed = 0;
for await (const line of createInterface({ input: process.stdin })) {
  channel.publish(...message(line));
  // Rejects when the broker refuses the message. A return comes before the confirm.
  await channel.waitForConfirms();
  if (returned) throw new Error(`no queue is bound for: ${line}`);
  confirmed++;
}
await connection.close();
console.log(confirmed);
