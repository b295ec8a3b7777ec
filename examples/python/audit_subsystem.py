#!/usr/bin/env python3
"""A subsystem of a Phalanx node in Python, standard library only (docs/subsystem-protocol.md).

It keeps a journal: one line when the processing of a step begins, one when it ends. Put your own work into `process`.

    phalanx dev --dir /tmp/demo &
    for n in n0 n1 n2; do python3 audit_subsystem.py --socket /tmp/demo/$n.sock --journal /tmp/$n.log & done
"""

import argparse
import json
import os
import queue
import signal
import socket
import sys
import threading
import time

VERSION = 1


class Subsystem:
    """One connection, one subsystem: `run` gives each notification to `process`, one after the other."""

    def __init__(self, path, registration, process):
        self.process = process
        self.jobs = queue.Queue()
        self.aborts = {}  # number of an unanswered notification -> event that tells its work to stop
        self.sending = threading.Lock()
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.connect(path)
        self.lines = self.connection.makefile("r", encoding="utf-8", newline="\n")
        self.say(type="hello", version=VERSION)
        self.node = self.hear("hello")["node"]
        self.say(type="register", **registration)
        self.hear("registered")
        threading.Thread(target=self.work, daemon=True).start()

    def say(self, **line):
        with self.sending:
            self.connection.sendall((json.dumps(line) + "\n").encode())

    def hear(self, expected=None):
        text = self.lines.readline()
        line = json.loads(text) if text else {"type": "error", "fatal": True, "text": "the node is gone"}
        if line["type"] == "error":
            print(f"error: {line['text']}", file=sys.stderr, flush=True)
            if line["fatal"]:
                sys.exit(1)
        elif expected and line["type"] != expected:
            sys.exit(f"error: {line['type']} instead of {expected}")
        return line

    def run(self):
        """Until the level has left this node."""
        while True:
            line = self.hear()
            if line["type"] == "notification":
                self.aborts[line["number"]] = threading.Event()
                self.jobs.put(line)
            elif line["type"] == "abort":
                abort = self.aborts.get(line["number"])  # answered in this moment if it is not there
                if abort:
                    abort.set()
            elif line["type"] == "resumed":
                print("resumed:", json.dumps(line["states"]), file=sys.stderr, flush=True)
            elif line["type"] == "withdrawn":
                return

    def work(self):
        while True:
            job = self.jobs.get()
            number = job["number"]
            abort = self.aborts[number]
            try:
                self.process(self.node, job, abort)
                answer = {"type": "acknowledged", "number": number}
            except Exception as failure:  # the administrator reads it, and the notification comes again
                answer = {"type": "failed", "number": number, "text": str(failure)}
            del self.aborts[number]
            if not abort.is_set():  # else the answer counts for nobody
                self.say(**answer)


class Journal:
    """Lines as `phalanx` tests read them: time, node, level, kind, subject, incarnation, transition, barrier, restart, what."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, node, level, notice, what):
        kind = {"join-extending": "joining"}.get(notice["kind"], notice["kind"])
        words = [time.time_ns(), node, level, kind, notice["node"], notice["incarnation"], notice["transition"]]
        words += [notice["barrier"], notice["restart"], what]
        os.write(self.file, (" ".join(map(str, words)) + "\n").encode())


def main():
    options = argparse.ArgumentParser(description="A subsystem that keeps a journal of every step.")
    options.add_argument("--socket", default=os.environ.get("PHALANX_SOCKET"), help="the node's socket")
    options.add_argument("--name", default="audit")
    options.add_argument("--level", type=int, default=500)
    options.add_argument("--joining", type=int, default=2, help="barriers of a join")
    options.add_argument("--leaving", type=int, default=1, help="barriers of a graceful leave")
    options.add_argument("--forced-leaving", type=int, default=1, help="barriers of a forced leave")
    options.add_argument("--on-death", choices=["force-node", "drop-level"], default="drop-level")
    options.add_argument("--journal", default="audit.log")
    given = options.parse_args()
    if not given.socket:
        options.error("--socket or PHALANX_SOCKET names the node's socket")
    journal = Journal(given.journal)

    def process(node, notification, abort):
        for notice in notification["batch"]:
            journal.write(node, notification["level"], notice, "begin")
        # The work comes here; look at `abort.is_set()` now and then.
        for notice in notification["batch"]:
            journal.write(node, notification["level"], notice, "end")

    barriers = {"joining": given.joining, "leaving": given.leaving, "forced_leaving": given.forced_leaving}
    registration = {"name": given.name, "level": given.level, "barriers": barriers, "on_death": given.on_death}
    subsystem = Subsystem(given.socket, registration, process)
    for wish_to_end in (signal.SIGINT, signal.SIGTERM):  # leave first; the level's own leave is still processed
        signal.signal(wish_to_end, lambda *_: subsystem.say(type="withdraw"))
    subsystem.run()


if __name__ == "__main__":
    main()
