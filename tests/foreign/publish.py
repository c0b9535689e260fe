"""publish.py URL: publishes messages with pika and prints how many the broker confirmed.

One message a line on standard input, as JSON:
{"exchange": "leveret.tasks", "routing_key": "default", "properties": {"type": "sum", "headers": {}}, "body": [1, 2]}
"text" instead of "body" is a body that is not to be encoded as JSON. Exits with 1 if the broker refuses or returns one.
"""

import json
import sys

import pika


def message(line):
    entry = json.loads(line)
    text = entry["text"] if "text" in entry else json.dumps(entry.get("body"))
    return entry.get("exchange", "leveret.tasks"), entry["routing_key"], entry.get("properties", {}), text.encode()


def main():
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    channel.confirm_delivery()
    confirmed = 0
    for line in sys.stdin:
        exchange, routing_key, properties, body = message(line)
        # Raises when the broker refuses the message or finds no queue for it.
        channel.basic_publish(exchange, routing_key, body, pika.BasicProperties(**properties), mandatory=True)
        confirmed += 1
    connection.close()
    print(confirmed)


if __name__ == "__main__":
    main()
