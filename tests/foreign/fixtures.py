"""fixtures.py URL publish FILE: publishes the messages of tests/fixtures/in.json with pika, in their order.
fixtures.py URL compare FILE: takes the messages of tests/fixtures/out.json from their queues and says how they differ.

Prints how many there were. Exits with 1 if the broker refuses or returns one, or one is not as the file says.
"""

import base64
import json
import struct
import sys

import pika
import pika.data

FORMATS = {
    "int8": (b"b", ">b"),
    "uint8": (b"B", ">B"),
    "int16": (b"s", ">h"),
    "uint16": (b"u", ">H"),
    "int32": (b"I", ">i"),
    "uint32": (b"i", ">I"),
    "int64": (b"l", ">q"),
    "float": (b"f", ">f"),
    "double": (b"d", ">d"),
    "timestamp": (b"T", ">Q"),
}


class Encoded:
    """A header value as it is on the wire: pika by itself would choose the type."""

    def __init__(self, data):
        self.data = data


def encode_value(pieces, value, encode_other=pika.data.encode_value):
    if not isinstance(value, Encoded):
        return encode_other(pieces, value)
    pieces.append(value.data)
    return len(value.data)


pika.data.encode_value = encode_value


def header(value):
    if not isinstance(value, dict):
        return value
    ((kind, value),) = value.items()
    if kind == "array":
        return [header(item) for item in value]
    if kind == "table":
        return headers(value)
    if kind == "decimal":
        return Encoded(struct.pack(">cBi", b"D", *value))
    if kind in ("bytes", "text"):
        data = base64.b64decode(value)
        return Encoded(struct.pack(">cI", b"x" if kind == "bytes" else b"S", len(data)) + data)
    tag, layout = FORMATS[kind]
    return Encoded(tag + struct.pack(layout, value))


def headers(table):
    return {name: header(value) for name, value in table.items()}


def body(entry):
    return entry["text"].encode() if "text" in entry else base64.b64decode(entry["base64"])


def publish(channel, entries):
    channel.confirm_delivery()
    for entry in entries:
        properties = pika.BasicProperties(**entry.get("properties", {}))
        if "headers" in entry:
            properties.headers = headers(entry["headers"])
        routing_key = entry.get("routing_key", "default")
        # Raises when the broker refuses the message or finds no queue for it.
        channel.basic_publish("leveret.tasks", routing_key, body(entry["body"]), properties, mandatory=True)


def plain(value):
    """The value of a header without its type, for pika tells it no more once it is read."""
    return next(iter(value.values())) if isinstance(value, dict) else value


def compare(channel, entries):
    for entry in entries:
        method, properties, content = channel.basic_get(entry["routing_key"].split(".")[0], auto_ack=True)
        if method is None:
            sys.exit(f"{entry['name']}: the message is not there")
        # A quorum queue adds its own count.
        sent = {name: value for name, value in (properties.headers or {}).items() if name != "x-delivery-count"}
        properties.headers = sent or None
        found = {name: value for name, value in vars(properties).items() if value is not None}
        wanted = dict(entry["properties"])
        if "headers" in entry:
            wanted["headers"] = {name: plain(value) for name, value in entry["headers"].items()}
        for what, one, other in [
            ("exchange", method.exchange, entry["exchange"]),
            ("routing key", method.routing_key, entry["routing_key"]),
            ("properties", found, wanted),
            ("body", content.decode(), entry["body"]),
        ]:
            if one != other:
                sys.exit(f"{entry['name']}: the {what} should be {other!r}, not {one!r}")


def main():
    url, what, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)
    connection = pika.BlockingConnection(pika.URLParameters(url))
    {"publish": publish, "compare": compare}[what](connection.channel(), entries)
    connection.close()
    print(len(entries))


if __name__ == "__main__":
    main()
