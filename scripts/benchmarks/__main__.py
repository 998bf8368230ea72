"""scripts/bench: measure the rows of the speed table, print them with their goals."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import loads
import many
import pushes
import rows
from figures import Figure
from sizes import FULL, QUICK

ROWS: dict[str, Callable[[rows.Files], Iterator[Figure]]] = {
    "1": rows.row_1,
    "2": rows.row_2,
    "3": rows.row_3,
    "4": rows.row_4,
    "5": rows.row_5,
    "6": rows.row_6,
    "7": rows.row_7,
    "8": loads.row_8,
    "9": pushes.rows_9_and_10,  # and 10, which goes on from there
    "11": many.row_11,
}
HEAD = f"{'row':>3}  {'work':<40} {'min':>8} {'median':>8}  {'figure':<40} {'goal':>8}"


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"which rows ({', '.join(ROWS)}: 9 brings 10); all if none is named")
    parser.add_argument("--quick", action="store_true", help="small files and few rounds: goals are for full ones")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    figures = []
    with tempfile.TemporaryDirectory(prefix="metta-hub-bench-") as folder:
        files = rows.Files(Path(folder), QUICK if options.quick else FULL)
        if not options.json:
            print(_machine(), HEAD, sep="\n", flush=True)
        for number in options.rows or ROWS:
            for figure in ROWS[number](files):
                figures.append(figure)
                if not options.json:
                    print(_line(figure), flush=True)
    if options.json:
        print(json.dumps([asdict(figure) | {"met": figure.met} for figure in figures], indent=2, ensure_ascii=False))


def _machine() -> str:
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    return f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}, load {load}"


def _line(figure: Figure) -> str:
    sign = "≤" if figure.most else "≥"
    digits = figure.digits
    goal = "" if figure.goal is None else f"{sign} {figure.goal:g}"
    verdict = {None: "", True: "met", False: "MISSED"}[figure.met]
    figures = f"{figure.value:>8.{digits}f} {figure.median:>8.{digits}f}"
    return f"{figure.row:>3}  {figure.work:<40} {figures}  {figure.unit:<40} {goal:>8}  {verdict}"


if __name__ == "__main__":
    sys.exit(main())
