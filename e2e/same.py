"""Fail unless two files hold the same lines, in any order (partitions interleave)."""
import collections
import sys

want, got = (collections.Counter(open(p, "rb")) for p in sys.argv[1:3])
if want != got:
    missing, extra = want - got, got - want
    for name, lines in (("missing", missing), ("extra", extra)):
        print(f"{sum(lines.values())} {name}:", *list(lines)[:3], sep="\n  ")
    sys.exit(1)
print(f"{sum(got.values())} records equal")
