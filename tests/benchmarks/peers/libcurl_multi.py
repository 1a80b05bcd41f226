"""The limit: libcurl's multi interface, every body thrown away: `libcurl_multi.py URL NUMBERS_FILE`."""

# mypy: ignore-errors
# Its library lives in the peers' own environment.

import sys
from pathlib import Path

import pycurl

IN_FLIGHT = 32


def handle():
    easy = pycurl.Curl()
    easy.setopt(pycurl.WRITEFUNCTION, lambda _: None)
    easy.setopt(pycurl.HTTPHEADER, ["Authorization: Token benchmark"])
    return easy


def main(url, numbers):
    pending = iter(numbers.read_text("utf-8").split())
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAXCONNECTS, IN_FLIGHT)

    def ask(easy):
        """Ask for the next order, if there is one left."""
        for number in pending:
            easy.setopt(pycurl.URL, f"{url}/api/i1/orders/{number}")
            multi.add_handle(easy)
            return 1
        return 0

    handles = [handle() for _ in range(IN_FLIGHT)]
    running = sum(map(ask, handles))
    fetched = 0
    while running:
        while multi.perform()[0] == pycurl.E_CALL_MULTI_PERFORM:
            pass
        _, ended, failed = multi.info_read()
        if failed:
            sys.exit(failed[0][2])
        for easy in ended:
            fetched += easy.getinfo(pycurl.RESPONSE_CODE) == 200
            multi.remove_handle(easy)
            running += ask(easy) - 1
        if not ended:
            multi.select(1.0)
    print(f"{fetched} orders")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
