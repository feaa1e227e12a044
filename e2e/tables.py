"""Read a table with PyIceberg and with DuckDB; compare every value with the input file."""
import collections
import glob
import json
import os
import sys
import sysconfig
import time

import duckdb
import pyarrow as pa
from pyiceberg.catalog import load_catalog

name, source = sys.argv[1:3]
catalog_url = os.environ["CATALOG"]
want = collections.Counter()
for line in open(source):
    f = json.loads(line.split("\t", 1)[1])
    f["time_hour"] = f["time_hour"].replace("Z", "+00:00")
    want[json.dumps(f, sort_keys=True)] += 1
total = sum(want.values())
COLUMNS = list(f)


def check(engine, table: pa.Table):
    got = collections.Counter()
    for row in table.select(COLUMNS).to_pylist():
        row["time_hour"] = row["time_hour"].isoformat()
        got[json.dumps(row, sort_keys=True)] += 1
    if got != want:
        print(engine, "missing:", *list((want - got))[:3], "extra:", *list((got - want))[:3], sep="\n  ")
        sys.exit(1)
    offsets = set(zip(table["kafka_partition"].to_pylist(), table["kafka_offset"].to_pylist()))
    assert len(offsets) == total, f"{len(offsets)} distinct offsets"
    print(f"{engine}: {total} rows equal the input, every value")


catalog = load_catalog("tidewater", type="rest", uri=catalog_url)
deadline = time.monotonic() + 90
while True:
    table = catalog.load_table(name)
    rows = table.scan(selected_fields=("kafka_offset",)).count()
    if rows >= total:
        break
    assert time.monotonic() < deadline, f"{rows} of {total} rows after 90 s"
    time.sleep(0.5)
check("PyIceberg", table.scan().to_arrow())

db = duckdb.connect(config={"allow_unsigned_extensions": "true"})
for extension in ("avro", "httpfs", "iceberg"):
    path = glob.glob(f"{sysconfig.get_path('purelib')}/duckdb_extension_{extension}/extensions/*/{extension}.duckdb_extension")[0]
    db.execute(f"LOAD '{path}'")
db.execute("SET TimeZone = 'UTC'")
db.execute(f"ATTACH '' AS tidewater (TYPE iceberg, ENDPOINT '{catalog_url}', AUTHORIZATION_TYPE 'none')")
check("DuckDB", db.execute(f"SELECT * FROM tidewater.{name}").to_arrow_table())
