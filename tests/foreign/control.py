"""control.py URL ROUTING_KEY SECONDS: sends a command to workers with pika and prints their replies.

The command is the text on standard input. Each reply that comes within SECONDS goes out as a line of JSON.
Exits with 1 if no worker is addressed.
"""

import sys
import uuid

import pika


def main():
    url, routing_key, seconds = sys.argv[1:]
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    correlation_id = str(uuid.uuid4())

    def reply(_channel, _method, properties, body):
        if properties.correlation_id == correlation_id:
            print(body.decode(), flush=True)

    channel.basic_consume("amq.rabbitmq.reply-to", reply, auto_ack=True)
    channel.confirm_delivery()
    properties = pika.BasicProperties(
        reply_to="amq.rabbitmq.reply-to",
        correlation_id=correlation_id,
        expiration=str(int(float(seconds) * 1000)),
        content_type="application/json",
    )
    # Raises when no worker is there that the routing key leads to.
    channel.basic_publish("leveret.control", routing_key, sys.stdin.read().encode(), properties, mandatory=True)
    connection.sleep(float(seconds))
    connection.close()


if __name__ == "__main__":
    main()
