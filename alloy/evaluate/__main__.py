"""`python -m alloy.evaluate CONFIG [key.sub=value ...]`: the evaluation stage of a recipe."""

import sys

from alloy.command import main
from alloy.stage import stage_main

if __name__ == "__main__":
    sys.exit(main(lambda arguments: stage_main("alloy.evaluate", arguments)))
