"""call.py URL: publishes one message with pika, waits for the reply and prints it.

The message comes as one line of JSON on standard input, as for publish.py; reply_to and correlation_id are added.
The reply goes out as JSON: {"properties": {"type": ..., "headers": {...}}, "body": "..."}. Exits with 1 after 30 s without one.
"""

import json
import sys
import uuid

import pika

from publish import message


def main():
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    channel.confirm_delivery()
    reply_to = channel.queue_declare("", exclusive=True).method.queue
    exchange, routing_key, properties, body = message(sys.stdin.readline())
    correlation_id = str(uuid.uuid4())
    properties = pika.BasicProperties(**{**properties, "reply_to": reply_to, "correlation_id": correlation_id})
    channel.basic_publish(exchange, routing_key, body, properties, mandatory=True)
    for _, reply, reply_body in channel.consume(reply_to, auto_ack=True, inactivity_timeout=30):
        if reply is None:
            sys.exit("no reply within 30 s")
        if reply.correlation_id == correlation_id:
            known = {name: value for name, value in vars(reply).items() if value is not None}
            print(json.dumps({"properties": known, "body": reply_body.decode()}, default=str))
            break
    connection.close()


if __name__ == "__main__":
    main()
