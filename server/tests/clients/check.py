"""What the programs of clients share: checks that are counted and named when they fail."""

import signal
import sys
import traceback

# Longer than all checks of a client take together; a wait without end fails here.
LIMIT = 240

checks = []


def check(function):
    checks.append(function)
    return function


def main(client):
    """Runs all checks with the addresses of the HTTP and the gRPC door, and ends with the number of those that failed."""
    signal.alarm(LIMIT)
    http, grpc = sys.argv[1:3]
    failed = 0
    for function in checks:
        try:
            function(http, grpc)
            print(f"{client}: {function.__name__}: ok")
        except Exception:
            failed += 1
            print(f"{client}: {function.__name__}: FAILED")
            traceback.print_exc()
    print(f"{client}: {len(checks) - failed} of {len(checks)} checks passed")
    sys.exit(1 if failed else 0)


def raises(kind, call, *words):
    try:
        call()
    except kind as error:
        assert all(word in str(error) for word in words), error
        return error
    raise AssertionError(f"no {kind.__name__}")
