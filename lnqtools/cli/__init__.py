"""The command line: one thin module per tool, over the modules beside this package."""

import signal
import sys

if sys.argv[0].rpartition("/")[2].startswith("lnq-") and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    # This process is a tool: until it heeds signals, Ctrl-C ends it as SIGTERM does, not in a
    # traceback out of the middle of an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
