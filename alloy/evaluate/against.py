"""The answers of every model against a reference model's, by a reward model and by a judge.

The answers are those that the suite was measured on: nothing is generated again. A reward model scores each
answer for itself, so that no order comes into it; a judge is asked in both orders and the mean is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from alloy.chat import parse_completion
from alloy.environments.registry import Environments
from alloy.environments.task import Message
from alloy.evaluate.config import SuiteConfig, WinRateConfig
from alloy.evaluate.statistics import mean_interval
from alloy.evaluate.suites import SuiteResult
from alloy.evaluate.win_rate import win_rate
from alloy.judges.endpoint import Judge
from alloy.judges.reward_model import Scorer
from alloy.stage import say

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Duel:
    """Two answers to one prompt."""

    prompt: list[Message]
    ours: str
    reference: str


def answers_of(result: SuiteResult, tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    """The answer to every task, of several the first, thinking left out; what did not end is worth what saying
    nothing is.
    """
    found: dict[str, str] = {}
    for row in result.completions:
        text = str(row["completion"])
        ended = text.endswith(tokenizer.eos_token)
        turn = parse_completion(text.removesuffix(tokenizer.eos_token), bool(row["thinking"]), "hermes", [])
        found.setdefault(str(row["task"]), str(turn.get("content") or "") if ended else "")
    return found


def prompts_of(suite: SuiteConfig) -> dict[str, list[Message]]:
    """What a suite asks, by task."""
    environments = Environments.make({suite.environment: suite.options})
    tasks = environments[suite.environment].tasks(suite.split, suite.items, 0)  # type: ignore[arg-type]
    return {task.id: task.messages for task in tasks}


def win_rates(
    config: WinRateConfig,
    prompts: Mapping[str, list[Message]],
    answers: Mapping[str, Mapping[str, str]],
    scorer: Scorer | None,
    judge: Judge | None,
) -> list[dict[str, Any]]:
    """Every model but the reference, by everyone who prefers.

    Args:
        answers: by model and task.

    Returns: `stage`, `reference`, `by` (`reward_model`, `judge`), `missing` (prompts without a preference) and,
        under `plain` and `controlled`, the intervals; neither where every preference is missing. Of a judge
        `steady`, the share of the prompts where it prefers the same answer in both orders.
    Raises:
        StageError: as `Judge.compare` does.
    """
    reference = answers[config.reference]
    rows: list[dict[str, Any]] = []
    for stage, given in answers.items():
        if stage == config.reference:
            continue
        duels = [Duel(prompts[task], given[task], reference[task]) for task in given if task in reference]
        found: dict[str, list[float | None]] = {}
        steady: list[bool] = []
        if scorer is not None:
            found["reward_model"] = preferred_by_score(scorer, duels)
        if judge is not None:
            found["judge"], steady = preferred_by_judge(judge, duels)
        for by, preferences in found.items():
            row = {"stage": stage, "reference": config.reference, "suite": config.suite, "by": by}
            rows.append(row | _rates(duels, preferences))
            if by == "judge" and steady:
                rows[-1]["steady"] = asdict(mean_interval([float(same) for same in steady]))
            if "plain" in rows[-1]:
                plain, controlled = (100 * rows[-1][key]["value"] for key in ("plain", "controlled"))
                say(f"  {stage:14} wins {plain:.1f}% against {config.reference} by the {by.replace('_', ' ')}; "
                    f"{controlled:.1f}% at equal length")  # fmt: skip
    return rows


def preferred_by_score(scorer: Scorer, duels: Sequence[Duel]) -> list[float | None]:
    """1 where ours scores higher, 0 where the reference's does, a half for equal scores; None without a score."""
    prompts = [duel.prompt for duel in duels]
    scores = scorer.score(
        [*prompts, *prompts], [*(duel.ours for duel in duels), *(duel.reference for duel in duels)]
    )
    pairs = zip(scores[: len(duels)], scores[len(duels) :], strict=True)
    return [None if a is None or b is None else 0.5 if a == b else float(a > b) for a, b in pairs]


def preferred_by_judge(judge: Judge, duels: Sequence[Duel]) -> tuple[list[float | None], list[bool]]:
    """1 where ours is preferred, 0 where the reference's is, a half for neither; None for a missing comparison.

    Equal answers are a tie, whatever a judge would say.

    Returns: beside it, whether the judge preferred the same in both orders, of the duels in which it was asked so.
    """
    asked = [index for index, duel in enumerate(duels) if duel.ours != duel.reference]
    found: list[float | None] = [0.5] * len(duels)
    compared = judge.compare([(duels[i].prompt, duels[i].ours, duels[i].reference) for i in asked])
    for index, judgement in zip(asked, compared.judgements, strict=True):
        found[index] = None if judgement is None else judgement.preference()
    return found, compared.steady


def _rates(duels: Sequence[Duel], preferences: Sequence[float | None]) -> dict[str, Any]:
    known = [(duel, p) for duel, p in zip(duels, preferences, strict=True) if p is not None]
    told: dict[str, Any] = {"missing": len(duels) - len(known)}
    if known:
        longer_by = [len(duel.ours.split()) - len(duel.reference.split()) for duel, _ in known]
        found = win_rate([p for _, p in known], longer_by)
        told |= {"plain": asdict(found.plain), "controlled": asdict(found.controlled)}
        told["words_more"] = sum(longer_by) / len(known)
    return told
