"""python -m tests.fuzzing [READER...] [--inputs 100000] [--seed 0] [--show READER:NUMBER]: see `run`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzzing.readers import READERS
from tests.fuzzing.run import fuzz, input_of


def main() -> None:
    """Fuzz and print a line a reader; exit code 1 where anything was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("readers", nargs="*", help=", ".join(READERS))
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", metavar="READER:NUMBER", help="write that input below ./fuzz-input instead")
    options = parser.parse_args()
    unknown = set(options.readers) - set(READERS)
    if unknown:
        parser.error(f"no reader {unknown.pop()!r}; there are {', '.join(READERS)}")
    if options.show:
        reader, number = options.show.split(":")
        print(input_of(reader, int(number), options.seed, Path("fuzz-input")))
        return
    found = 0
    for reader in options.readers or READERS:
        started = time.monotonic()
        outcome = fuzz(reader, options.inputs, options.seed)
        print(
            f"{reader}: {outcome.inputs} inputs, {outcome.taken} taken, {outcome.refused} refused, "
            f"{len(outcome.findings)} findings, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        for finding in outcome.findings:
            print(f"  {finding.reader}:{finding.number}: {finding.what[-2000:]}", flush=True)
        found += len(outcome.findings)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
