"""Which packages bring tests in their sdists, and how these are run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The tests of one package; its version and what it needs stand in ``requirements.txt``.

    ``tests``: what pytest is given. ``hidden``: sources in the sdist that would hide the installed
    package. ``quick``: what CI runs, empty for all of ``tests``, None for nothing.
    """

    package: str
    tests: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = ()


SUITES = (
    Suite(package="betamax", tests=("tests",)),
    Suite(
        package="google-auth",
        tests=("tests", "--ignore=tests/aio", "-p", "no:pytest_httpserver"),
        hidden=("google",),
        quick=("tests/transport", "tests/compute_engine", "-p", "no:pytest_httpserver"),
    ),
    Suite(
        package="google-cloud-storage",
        tests=("tests/resumable_media/unit",),
        hidden=("google",),
    ),
    Suite(package="google-resumable-media", tests=("tests/unit",), hidden=("google",)),
    Suite(
        package="gql",
        tests=("tests/test_requests.py", "tests/test_requests_batch.py"),
    ),
    Suite(package="hvac", tests=("tests/unit_tests",), quick=None),
    Suite(
        package="influxdb",
        tests=("influxdb/tests/client_test.py", "influxdb/tests/influxdb08/client_test.py"),
    ),
    Suite(
        package="PyGithub",
        tests=("tests",),
        quick=("tests/Retry.py", "tests/GithubRetry.py", "tests/Requester.py"),
    ),
    Suite(package="pyTelegramBotAPI", tests=("tests",)),
    Suite(package="requests-cache", tests=("tests/unit",), quick=("tests/unit/test_session.py",)),
    Suite(package="requests-futures", tests=("tests",)),
    Suite(package="requests-mock", tests=("tests",)),
    Suite(
        package="requests-oauthlib",
        # Two tests compare seconds of the clock; the examples need a browser.
        tests=("tests", "--ignore=tests/examples", "-k", "not test_fetch_access_token"),
    ),
    Suite(package="requests-toolbelt", tests=("tests",)),
    Suite(package="responses", tests=("responses/tests", "-p", "no:localserver")),
    Suite(
        package="zeep",
        tests=("tests",),
        quick=("tests/test_transports.py", "tests/test_client.py", "tests/test_wsdl.py"),
    ),
)
