"""Benchmark programs that take turns: each is started and warmed up once; then, round by round, each measures one block.

What drifts on a shared machine hits all of them alike, and the ratio of each round is worth something by itself."""
import contextlib
import fcntl
import json
import os
import subprocess
import time

# Before each turn: threads of the program before go on looking for work for a while, and would take a core from this one.
PAUSE_S = 0.05
# OpenBLAS's do for 2^28 cycles, a tenth of a second; 2^22 is still much more than there is between two calls of one block.
SPIN = {"OPENBLAS_THREAD_TIMEOUT": "22"}


class Engine:
    """A program that was started with --turns."""

    def __init__(self, name, command, env=None):
        self.name, self.times = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=env or environment())
        self.about = None  # its first line

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: {self.process.stderr.read().strip()[-2000:] or 'gone'}")
        return json.loads(line)

    def start(self):
        self.about = self.read()

    def order(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def turn(self):
        time.sleep(PAUSE_S)
        self.times.append(self.order("")["ms"])

    def end(self):
        self.process.stdin.close()
        rest = [json.loads(line) for line in self.process.stdout]
        self.process.wait()
        return {**self.about, **(rest[-1] if rest else {}), "ms": min(self.times, default=None), "times": self.times}


@contextlib.contextmanager
def alone(lock, engines):
    """With a lock file: nobody else measures meanwhile, and the engines, and what we start here, get what priority we may give them."""
    if not lock:
        yield
        return
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        set_policy(engines, os.SCHED_RR, 1)
        yield
        set_policy(engines, os.SCHED_OTHER, 0)
    time.sleep(0.1)  # whoever waits for the lock gets it


def set_policy(engines, policy, priority):
    """Of all their threads, and our own. Real-time ones need not wait until others have used up their slices; only some users may."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, policy, os.sched_param(priority))
        for engine in engines:
            for task in os.listdir(f"/proc/{engine.process.pid}/task"):
                os.sched_setscheduler(int(task), policy, os.sched_param(priority))


def take_turns(commands, rounds=9, lock=None, complain=print):
    """{name: command} -> {name: result}; an engine that fails is told of and left out."""
    engines = []
    for name, command in commands.items():  # one after the other: warming up together would disturb compile times
        engine = Engine(name, command)
        try:
            engine.start()
            engines.append(engine)
        except (RuntimeError, ValueError) as error:
            complain(error)
    for _ in range(rounds):
        with alone(lock, engines):
            for engine in engines:
                engine.turn()
    return {engine.name: engine.end() for engine in engines}


def environment():
    """Without settings that slow OpenBLAS down, and without limits of threads other than ours."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "OMP_", "MKL_", "XLA_"))}, **SPIN}


def processor():
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"
