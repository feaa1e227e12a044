"""Print N free loopback ports, each the first of RUN that are free (default 1)."""
import socket
import sys

count, run = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
kept, firsts = [], []
while len(firsts) < count:
    mine = []
    try:
        for i in range(run):
            s = socket.socket()
            mine.append(s)
            s.bind(("127.0.0.1", mine[0].getsockname()[1] + i if i else 0))
    except (OSError, OverflowError):
        pass
    kept += mine
    if len(mine) == run and mine[-1].getsockname()[1]:
        firsts.append(mine[0].getsockname()[1])
print(*firsts)
