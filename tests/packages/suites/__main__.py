"""Runs the packages' own tests twice and compares.

``python -m packages.suites [--all] [PACKAGE ...]``, in ``tests``. Exits with 1 where a
test fails with ours alone and is not listed in ``known.txt``, and where a listed one passes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

from packages.faults import Way
from packages.known import read
from packages.suites.table import SUITES, Suite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIST = Path(__file__).with_name("known.txt")
TESTS = Path(__file__).resolve().parents[2]
AT_ONCE = 2
LONGEST = 900.0
_FOREIGN = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Result(NamedTuple):
    """What became of one run."""

    names: frozenset[str]
    failed: frozenset[str]
    passed: int


def unpacked(suite: Suite, directory: Path) -> Path:
    """Return the directory of a package's sdist, of the version that is installed."""
    pinned = f"{suite.package}=={metadata.version(suite.package)}"
    command = ("pip", "download", "--quiet", "--no-deps", "--no-binary", suite.package, pinned)
    subprocess.run(
        [sys.executable, "-m", *command, "--dest", str(directory)], check=True, capture_output=True
    )
    (archive,) = directory.glob("*.tar.gz")
    shutil.unpack_archive(archive, directory)
    (source,) = (each for each in directory.iterdir() if each.is_dir())
    for name in suite.hidden:
        shutil.rmtree(source / name)
    return source


def run(source: Path, tests: tuple[str, ...], way: Way) -> Result:
    """Run tests in their sdist; raises RuntimeError where none could be run."""
    report = source.parent / f"{way.value}.xml"
    plugins = ("-p", "offline", *(("-p", "mount_plugin") if way is Way.OURS else ()))
    options = ("-q", "-p", "no:cacheprovider", "-o", "addopts=", "--timeout=60")
    path = [str(LIST.parent), str(TESTS / "support"), os.environ.get("PYTHONPATH", "")]
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *plugins, f"--junitxml={report}", *tests],
        cwd=source,
        env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    if not report.exists():
        raise RuntimeError(f"{source.name} could not be run: {done.stdout[-2000:]}{done.stderr}")
    cases = list(ET.parse(report).getroot().iter("testcase"))
    failed = [case for case in cases if {each.tag for each in case} & {"failure", "error"}]
    skipped = [case for case in cases if case.find("skipped") is not None]
    passed = len(cases) - len(failed) - len(skipped)
    if not passed:
        raise RuntimeError(f"no test of {source.name} has passed: {done.stdout[-2000:]}")
    return Result(_names(cases), _names(failed), passed)


def _names(cases: Iterable[ET.Element]) -> frozenset[str]:
    return frozenset(f"{case.get('classname')}::{case.get('name')}" for case in cases)


def compare(suite: Suite, *, whole: bool) -> dict[Way, Result]:
    """Run a suite plain and with ours."""
    tests = suite.tests if whole else suite.quick or suite.tests
    with tempfile.TemporaryDirectory() as directory:
        source = unpacked(suite, Path(directory))
        return {way: run(source, tests, way) for way in Way}


def problems(suite: Suite, results: dict[Way, Result]) -> Iterator[str]:
    """Yield each test that fails with ours alone and is not listed, and each that is and passes."""
    plain, ours = results[Way.PLAIN], results[Way.OURS]
    prefix = f"{suite.package} "
    known = {name.removeprefix(prefix) for name in read(LIST) if name.startswith(prefix)}
    new = ours.failed - plain.failed
    yield from (f"fails with ours: {prefix}{name}" for name in sorted(new - known))
    listed = known & ours.names
    yield from (f"passes, and is listed: {prefix}{name}" for name in sorted(listed - new))


def main() -> int:
    """Do all, and say what is new."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="also what CI leaves out")
    parser.add_argument("packages", nargs="*")
    given = parser.parse_args()
    usual = [each for each in SUITES if given.all or each.quick is not None]
    suites = [each for each in SUITES if each.package in given.packages] or usual
    found: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        compared = pool.map(lambda each: compare(each, whole=given.all), suites)
        for suite, results in zip(suites, compared, strict=True):
            told = [f"{way.value} {run.passed}/{len(run.failed)}" for way, run in results.items()]
            name = f"{suite.package} {metadata.version(suite.package)}"
            sys.stdout.write(f"{name}, passed/failed: {', '.join(told)}\n")
            sys.stdout.flush()
            found += problems(suite, results)
    sys.stdout.writelines(f"{each}\n" for each in found)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
