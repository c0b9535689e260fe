"""strange.py URL: publishes three tasks "probe" that RabbitMQ takes and that a careless reader falls over.

The first has a header of 20,000 lists, one in the other; the second a message_id and a header's name that are no UTF-8;
the third a routing key that is none. Prints how many the broker confirmed.
"""

import struct
import sys

import pika
import pika.data

LISTS = 20_000


class Nested:
    data = b"".join(b"A" + struct.pack(">I", 5 * (LISTS - 1 - level)) for level in range(LISTS))


def encode_value(pieces, value, encode_other=pika.data.encode_value):
    if not isinstance(value, Nested):
        return encode_other(pieces, value)
    pieces.append(value.data)
    return len(value.data)


class Bytes(str):
    """A text that is encoded as Latin-1, whatever AMQP wants."""

    def encode(self, *_):
        return super().encode("latin-1")


def main():
    pika.data.encode_value = encode_value
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    channel.confirm_delivery()
    bad = Bytes("b\xe4d")
    for routing_key, properties in [
        ("default", pika.BasicProperties(type="probe", message_id="nested", headers={"deep": Nested()})),
        ("default", pika.BasicProperties(type="probe", message_id=bad, headers={bad: "value"})),
        (Bytes("default.b\xe4d"), pika.BasicProperties(type="probe", message_id="routed")),
    ]:
        channel.basic_publish("leveret.tasks", routing_key, b"1", properties, mandatory=True)
    connection.close()
    print(3)


if __name__ == "__main__":
    main()
