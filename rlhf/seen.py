"""What a reward model or a judge is shown of a rollout."""

from alloy.rollout.conversation import Rollout


def seen(rollout: Rollout, hide_thinking: bool) -> str:
    """The answer; before it all thinking, where that is not hidden."""
    if hide_thinking:
        return rollout.answer
    thoughts = [str(turn["thinking"]) for turn in rollout.messages if turn.get("thinking")]
    return "\n".join([*thoughts, rollout.answer])
