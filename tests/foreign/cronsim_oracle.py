"""cronsim_oracle.py: says when cron expressions run next, by cronsim, which follows the cron of Debian.

Each line of standard input is {"expression": .., "zone": .., "count": n, "starts": [[seconds, walk] ..]}. For each there
is a line on standard output: a list with, for each start, the next n times as seconds; or, in its place, a text that
says why cronsim refuses the expression. Time zones come from the system, as they do for what is compared with it.

With `walk`, cronsim only says which local times match, and this goes through the minutes itself, for 100 days.
"""

import json
import sys
from datetime import datetime
from zoneinfo import TZPATH, ZoneInfo

from cronsim import CronSim, CronSimError

MINUTE = 60
# All offsets are multiples of this, and so are hours on the wall.
QUARTER = 15 * MINUTE
HORIZON = 100 * 24 * 60 * MINUTE


def times(expression, zone, start, count):
    simulation = CronSim(expression, datetime.fromtimestamp(start, zone))
    found = []
    while len(found) < count:
        try:
            found.append(int(next(simulation).timestamp()))
        # In a generator, the StopIteration of a search without a result becomes the other.
        except (StopIteration, RuntimeError):
            break
    return found


def walked(expression, zone, start, count):
    fields = CronSim(expression, datetime(2000, 1, 1))
    found, at = [], (start // MINUTE + 1) * MINUTE
    while len(found) < count and at <= start + HORIZON:
        local = datetime.fromtimestamp(at, zone)
        # Within a quarter of an hour the date and the hour stay.
        if local.hour not in fields.hours or local.month not in fields.months or not fields.match_day(local.date()):
            at = (at // QUARTER + 1) * QUARTER
            continue
        if local.minute in fields.minutes:
            found.append(at)
        at += MINUTE
    return found


def answer(question):
    zone = ZoneInfo(question["zone"])
    try:
        return [
            (walked if walk else times)(question["expression"], zone, start, question["count"])
            for start, walk in question["starts"]
        ]
    except CronSimError as error:
        return str(error)


if not TZPATH:
    sys.exit("this Python has no folder of time zones: install the system's tzdata")
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))))
