#!/usr/bin/env python3
"""An event watcher of a Phalanx node in Python, standard library only (docs/watcher-protocol.md).

It provides the watcher `external:directory`: an event occurs when a file appears in a directory. Put your own condition into `look`.

    phalanx dev --dir /tmp/demo &
    python3 directory_watcher.py --socket /tmp/demo/n0.sock

    [[event]]
    name = "job-arrived"
    watcher = "external:directory"
    in = { path = "/srv/jobs" }
    action = ["/usr/local/bin/run-job", "${in.path}/${out.file}"]
"""

import argparse
import json
import os
import select
import socket
import sys

VERSION = 1
LOOK_SECONDS = 0.1
PROVISION = {
    "watcher": "directory",
    "in": {"path": {"kind": "text", "required": True}},
    "out": {"file": {"kind": "text"}},
}


class Watcher:
    """One connection, one watcher; several events may use it at once, each by its number."""

    def __init__(self, path):
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.connect(path)
        self.pending = b""
        self.seen = {}  # number of a watching -> (directory, files that were there)
        self.say(type="hello", version=VERSION)
        self.say(type="provide", **PROVISION)

    def say(self, **line):
        self.connection.sendall((json.dumps(line) + "\n").encode())

    def run(self):
        while True:
            if select.select([self.connection], [], [], LOOK_SECONDS)[0]:
                read = self.connection.recv(65536)
                if not read:
                    sys.exit("error: the node is gone")
                *lines, self.pending = (self.pending + read).split(b"\n")
                for line in lines:
                    self.heard(json.loads(line))
            for number in list(self.seen):
                self.look(number)

    def heard(self, line):
        if line["type"] == "watch":
            self.seen[line["number"]] = (line["in"]["path"], None)
        elif line["type"] == "unwatch":
            self.seen.pop(line["number"], None)
        elif line["type"] == "provided":
            print("provided", flush=True)
        elif line["type"] == "error":
            print(f"error: {line['text']}", file=sys.stderr, flush=True)
            if line["fatal"]:
                sys.exit(1)

    def look(self, number):
        directory, before = self.seen[number]
        try:
            now = set(os.listdir(directory))
        except OSError as failure:
            self.say(type="watch-failed", number=number, text=str(failure))
            del self.seen[number]
            return
        for file in sorted(now - (now if before is None else before)):
            self.say(type="occurred", number=number, out={"file": file})
        self.seen[number] = (directory, now)


def main():
    options = argparse.ArgumentParser(description="Provides the event watcher `external:directory`.")
    options.add_argument("--socket", default=os.environ.get("PHALANX_SOCKET"), help="the node's socket")
    given = options.parse_args()
    if not given.socket:
        options.error("--socket or PHALANX_SOCKET names the node's socket")
    Watcher(given.socket).run()


if __name__ == "__main__":
    main()
