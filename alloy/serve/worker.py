"""What vLLM's worker process is asked to do once it runs."""

from alloy.rollout.vllm_draw import draw_with_one_number_in


class OneNumberDraw:
    """vLLM mixes this into its worker (`--worker-extension-cls`)."""

    def draw_with_one_number(self) -> None:
        """On a CPU: draw each token with one random number."""
        draw_with_one_number_in(self)
