"""Many command lines, one start of Python: argument lists as JSON on stdin -> [[exit code, stderr], ...] on stdout.

Each runs in a fork of a process that has imported everything and computed nothing.
"""

import json
import os
import sys
import tempfile

from jax._src import xla_bridge

from dci_jax import main


def answer(argv):
    """(exit code, stderr) of one command line."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 2)
            os.dup2(said.fileno(), 1)
            code = 1
            try:
                sys.argv = argv  # ml_collections looks for overrides there
                code = main.main(argv)
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return code, said.read()


if __name__ == "__main__":
    assert not xla_bridge.backends_are_initialized()  # its threads would be lost in a fork
    json.dump([answer(argv) for argv in json.load(sys.stdin)], sys.stdout)
