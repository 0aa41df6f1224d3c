"""The frameworks' own test suites, unmodified, run on this library's backends: `make upstream`.

suites.py is the table: a suite a row. fetch.py gets what is not installed, in the version and with the hash that the
table names; run.py runs one; page.py writes docs/upstream.md from docs/upstream.json. ours/ has, a file a suite, the
few lines that put our backend where the framework's own is.
"""
