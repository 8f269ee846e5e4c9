"""Programs, one a file, each started by `just`; the rooms below hold what they share.

`python3 -m phases.NAME` where the requirements are not installed ends here, in one line: no program runs without numpy.
"""
import importlib.util
import sys

# while Python looks for the module of -m it imports this package, and the first word is -m itself
if sys.argv[:1] == ["-m"] and importlib.util.find_spec("numpy") is None:
    print(f"error: {sys.executable or 'this Python'} has no numpy: install the requirements (python3 -m venv .venv && "
          ".venv/bin/pip install -r requirements.txt), then run .venv/bin/python -m phases.NAME, or just NAME",
          file=sys.stderr)
    sys.exit(2)
