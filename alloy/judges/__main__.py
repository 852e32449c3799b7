"""`python -m alloy.judges MODEL [--port 8100]`: serve a reward model over HTTP."""

import sys
from pathlib import Path

from alloy.artifact import resolve_parent
from alloy.command import Parser, main, quiet_libraries


def run(arguments: list[str]) -> int:
    parser = Parser(prog="python -m alloy.judges", description="Serve a reward model over HTTP.")
    parser.add_argument("model", type=Path, help="run folder of a reward model, or a model folder")
    parser.add_argument("--host", default="127.0.0.1", help="who may ask: this machine alone (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8100, help="0 takes a free one (8100)")
    given = parser.parse_args(arguments)
    folder = resolve_parent(given.model, ("reward-model",), "model").path
    quiet_libraries()
    from alloy.judges.served import serve

    server = serve(folder, given.host, given.port)
    print(f"serving {given.model} at {server.url}", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(run))
