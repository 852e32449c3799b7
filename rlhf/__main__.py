"""`python -m rlhf CONFIG [key.sub=value ...]`."""

import sys

from alloy.command import main
from alloy.stage import stage_main

if __name__ == "__main__":
    sys.exit(main(lambda arguments: stage_main("rlhf", arguments)))
