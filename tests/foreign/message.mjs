// One line of JSON as publish.py describes it, as what amqplib wants to have. AMQP's property names become amqplib's.
const NAMES = {
  content_type: "contentType",
  content_encoding: "contentEncoding",
  delivery_mode: "deliveryMode",
  correlation_id: "correlationId",
  reply_to: "replyTo",
  message_id: "messageId",
  user_id: "userId",
  app_id: "appId",
};

export function message(line) {
  const entry = JSON.parse(line);
  const options = { mandatory: true };
  for (const [name, value] of Object.entries(entry.properties ?? {})) options[NAMES[name] ?? name] = value;
  const text = "text" in entry ? entry.text : JSON.stringify(entry.body ?? null);
  return [entry.exchange ?? "leveret.tasks", entry.routing_key, Buffer.from(text), options];
}
