"""`./run bench`: measure the budgets; a line of JSON for each figure, and a table at the end."""

import argparse
import logging
import signal
import sys
import time

from tests.bench.benches import BENCHES
from tests.bench.figure import Bench, Profile, Result
from tests.bench.meter import clear_leftovers
from tests.bench.place import Place
from tests.lab.hosts import can_run_lab


def main() -> int:
    arguments = _arguments()
    profile = Profile(is_full=arguments.full, hosts=arguments.hosts)
    names = arguments.names or [bench.name for bench in BENCHES.values() if not bench.only_named]
    results: list[Result] = []
    failed = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is put away
    clear_leftovers()
    with Place() as place:
        for name in names:
            if not _measure(BENCHES[name], profile, place, results):
                failed.append(name)
    _print_table(results)
    if failed:
        print(f"bench: could not measure {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _measure(bench: Bench, profile: Profile, place: Place, results: list[Result]) -> bool:
    if bench.needs_lab and (reason := can_run_lab()):
        print(f"bench: {bench.name} needs lab hosts: {reason}", file=sys.stderr)
        return False
    print(f"bench: {bench.name} …", file=sys.stderr, flush=True)
    began = time.monotonic()
    try:
        for result in bench.measure(profile, place):
            results.append(result)
            print(result.line, flush=True)
    except Exception:
        logging.exception("bench: %s", bench.name)
        return False
    print(f"bench: {bench.name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--full", action="store_true", help="the documented sizes")
    parser.add_argument(
        "--hosts", type=int, metavar="N", help="lab hosts, instead of the profile's"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHES):
        parser.error(
            f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}"
        )
    return arguments


def _print_table(results: list[Result]) -> None:
    for result in results:
        figure = result.figure
        mark = "ok" if figure.is_kept(result.value) else "OVER"
        value = f"{result.value:,.2f} {figure.unit}"
        print(f"{mark:5} {figure.name:24} {value:>18}   budget {figure.limit}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
