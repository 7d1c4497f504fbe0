"""Everything that is checked, one session per question; ``.ci/run`` calls them in order."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import nox

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
OLDEST = PYTHONS[0]
CONSTRAINTS = ".ci/constraints-oldest.txt"
DIST = Path("dist")
PARTNERS = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "partners")
# Users' tests never need these.
BROWSER = ("djangorestframework", "fastapi", "flask", "gunicorn", "selenium", "uvicorn")
PAGES = ("tests/web/browser", "tests/docs")
SUPPORT = Path("tests", "support").resolve()
PROOF = {"PYTHONPATH": os.pathsep.join([str(Path("tests", "proof").resolve()), str(SUPPORT)])}
HOSTED = {  # schemas that check-jsonschema brings along
    "github-workflows": ".github/workflows/*.yml",
    "github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "readthedocs": ".readthedocs.yaml",
}
# In the first a server cuts one head and is gone, and we try again. The others dial an address
# outside of this machine.
NOT_AS_REQUESTS = (
    "tests/test_lowlevel.py::test_chunked_encoding_error",
    "tests/test_requests.py::TestTimeout::test_connect_timeout",
    "tests/test_requests.py::TestTimeout::test_total_timeout_connect",
)

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False


def install(session: nox.Session, extras: str, *arguments: str) -> None:
    """Install as a user would, with the newest versions unless the arguments say otherwise."""
    shutil.rmtree(
        "build", ignore_errors=True
    )  # setuptools would ship modules that are no longer there
    session.install("--upgrade", f".[{extras}]", *arguments)


def run_tests(session: nox.Session, *arguments: str) -> None:
    """Run pytest where nothing is missing: a test that skips itself for a package fails here."""
    session.run("pytest", *arguments, *session.posargs, env={"EVERYTHING_IS_DUE": "1"})


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests but the slow ones on the newest versions; arguments go to pytest."""
    install(session, "test", *PARTNERS)
    run_tests(session)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the slow tests: workers, the laboratory, forks under load, the fault matrix."""
    install(session, "test", *PARTNERS)
    run_tests(session, "-m", "slow and not browser")


@nox.session(python=OLDEST)
def oldest(session: nox.Session) -> None:
    """Run the tests on the lowest versions that setup.cfg allows."""
    install(session, "test", *PARTNERS, "--constraint", CONSTRAINTS)
    run_tests(session)


@nox.session(python=PYTHONS)
def coverage(session: nox.Session) -> None:
    """Run the tests, and fail below the branch coverage that pyproject.toml asks for."""
    session.install("--upgrade", "--editable", ".[test]", *PARTNERS)
    run_tests(session, "--cov", "--cov-report=term")


@nox.session
def requests(session: nox.Session) -> None:
    """Run the newest requests' own tests, from its sdist, with the adapter on every session."""
    install(session, "test")
    session.install("--upgrade", "requests", "pytest-httpbin", "pytest-mock")
    with tempfile.TemporaryDirectory() as elsewhere:
        source = ("--no-deps", "--no-binary", "requests", "requests")
        session.run("pip", "download", "--quiet", "--dest", elsewhere, *source)
        (archive,) = Path(elsewhere).iterdir()
        shutil.unpack_archive(archive, elsewhere)
        left_out = [f"--deselect={each}" for each in NOT_AS_REQUESTS]
        with session.chdir(archive.with_suffix("").with_suffix("")):
            session.run(
                "pytest",
                "-p",
                "mount_plugin",
                "-n",
                "4",
                "-q",
                *left_out,
                "tests",
                env={"PYTHONPATH": str(SUPPORT)},
            )


@nox.session
def browser(session: nox.Session) -> None:
    """Drive the chat page, and measure the documentation, in Chromium.

    Needs the system packages chromium and chromium-driver.

    ``SCREENSHOTS=docs/_static nox -s browser -- -k screenshots`` makes the pictures of the docs.
    """
    install(session, "test,docs")
    session.install("--upgrade", *BROWSER)
    session.run("pytest", "-m", "browser", "-n", "2", *PAGES, *session.posargs)


@nox.session
def packages(session: nox.Session) -> None:
    """Play real clients under faults, plain beside ours; ``-- --page`` writes docs/packages.md."""
    session.install("--requirement", "tests/packages/requirements.txt", "--editable", ".")
    if "--page" in session.posargs:
        with session.chdir("tests"):
            session.run("python", "-m", "packages", "--page", "../docs/packages.md")
        return
    session.run(
        "pytest", "--config-file", "tests/packages/pytest.ini", "tests/packages", *session.posargs
    )


@nox.session
def suites(session: nox.Session) -> None:
    """Run other packages' own tests with ours mounted everywhere; ``-- --all`` for all of them."""
    session.install("--requirement", "tests/packages/suites/requirements.txt", "--editable", ".")
    with session.chdir("tests"):
        session.run("python", "-m", "packages.suites", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Run an hour of load with at least 100 000 faults; ``-- --seconds 60 --seed 7``: a minute."""
    install(session, "test")
    session.run(
        "python",
        "tests/proof/soak.py",
        *(session.posargs or ("--seconds", "3600", "--least-faults", "100000")),
    )


@nox.session
def proof(session: nox.Session) -> None:
    """Run ten thousand random fault schedules, and see each planted bug found.

    ``-- --page docs/proof.md`` writes the figures down.
    """
    session.install("--upgrade", "--editable", ".[test]")
    session.run(
        "python", "tests/proof/proof.py", *session.posargs, env={"PYTHONPATH": str(SUPPORT)}
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz responses for an hour; ``-- --seconds 60 --seed 7`` for another length."""
    install(session, "test")
    arguments = session.posargs or ("--seconds", "3600", "--page", "docs/proof.md")
    session.run("python", "-m", "fuzzing.campaign", *arguments, env=PROOF)


@nox.session
def races(session: nox.Session) -> None:
    """Let things happen at any line of a call for an hour; the options are those of ``fuzz``."""
    install(session, "test")
    session.run("python", "-m", "races.campaign", "--corpus", env=PROOF)
    arguments = session.posargs or ("--seconds", "3600", "--page", "docs/proof.md")
    session.run("python", "-m", "races.campaign", *arguments, env=PROOF)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, check the format, and hold the files for code hosts to their schemas."""
    session.install("--upgrade", "check-jsonschema", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    for schema, files in HOSTED.items():
        paths = sorted(str(path) for path in Path().glob(files))
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths)


@nox.session
def types(session: nox.Session) -> None:
    """Run mypy --strict over everything, and pyright over what users write."""
    session.install(
        "--upgrade", "--editable", ".[test,lint,docs]", *PARTNERS, "basedpyright", "nox"
    )
    # Cohere's SDK brings the types of an older requests, which has its own by now.
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "types-requests")
    session.run("mypy")
    session.run("basedpyright", "--level", "error")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error, and nothing is fetched."""
    session.install("--upgrade", "--editable", ".[docs]")
    session.run(
        "sphinx-build",
        "-W",
        "--keep-going",
        "-E",
        "-q",
        "docs",
        "docs/_build/html",
        *session.posargs,
    )


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, and use the wheel as users will: alone, far from the sources."""
    session.install("--upgrade", "build")
    shutil.rmtree("build", ignore_errors=True)
    shutil.rmtree(DIST, ignore_errors=True)
    session.run(
        "python", "-m", "build", "--outdir", str(DIST), silent=True
    )  # the wheel is built from the sdist
    (wheel,) = (path.resolve() for path in DIST.glob("*.whl"))
    with tempfile.TemporaryDirectory() as elsewhere:
        session.run("python", "-m", "venv", f"{elsewhere}/venv")
        bin_dir = Path(elsewhere, "venv", "Scripts" if os.name == "nt" else "bin")
        with session.chdir(elsewhere):
            session.run(
                str(bin_dir / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                str(wheel),
                external=True,
            )
            smoke(session, bin_dir)


def smoke(session: nox.Session, bin_dir: Path) -> None:
    """Import the installed package, and run its self-check."""
    names = "import resilient_requests as r; print(r.__file__, *(getattr(r, n) for n in r.__all__))"
    # The demonstration makes its own certificates: a bundle of the machine would replace them.
    plain = {"REQUESTS_CA_BUNDLE": None, "CURL_CA_BUNDLE": None}
    session.run(str(bin_dir / "python"), "-W", "error", "-c", names, external=True)
    session.run(str(bin_dir / "resilient-requests"), "demo", "--json", env=plain, external=True)
    session.run(
        str(bin_dir / "python"), "-m", "resilient_requests", "--help", external=True, silent=True
    )
