"""Judging which of two answers is better: what a generative reward model is trained on, by GRPO or SFT.

The reward is 1 less the error, as a share of the largest there could be:

    |h1 - H1| + |h2 - H2| + ranking_weight * |r - R|

h the helpfulness of the two answers (1 to 5) and r their ranking (1 to 6) as the judge gives them, H and R as
the data has them. An answer in any other form than the one asked for is worth 0. Where the data has no
helpfulness the ranking stands alone; where it has a side alone, the error is how far the ranking is from that
side. Source: Nemotron 3 Nano (arXiv:2512.20848): reward from format, ranking error and helpfulness error; that
the sum is scaled to 0 to 1 is ours.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alloy.artifact import fingerprint_bytes
from alloy.data.preference_shapes import Preference, to_preference
from alloy.data.shapes import RowError
from alloy.environments.chat import ChatEnvironment, attributes
from alloy.environments.row_files import SHARES, Place, RowFiles, fingerprint_rows
from alloy.environments.task import Message, Split, Task, World
from alloy.judges.comparison import (
    FIRST_MUCH_BETTER,
    HIGHEST,
    LOWEST,
    SECOND_MUCH_BETTER,
    Unreadable,
    judge_messages,
    read_judgement,
    write_judgement,
)
from alloy.verify.verdict import Verdict

_SLIGHTLY, _MUCH = 1, 3
"""How much better an answer may be."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A preference with what its labels say.

    Attributes:
        helpfulness: of the chosen and the rejected answer, 1 to 5; None where it is not told.
        level: 1 slightly, 2, 3 much better; None where a side alone is told.
    """

    id: str
    where: str
    pair: Preference | None
    helpfulness: tuple[int, int] | None = None
    level: int | None = None


class JudgeEnvironment:
    """Two answers to compare; from rows of preferences, or from the chat environment's pairs when no path is given.

    Args:
        path, paths, shares: where the rows are, as for `problems`.
        shape: of the rows, as for reward models.
        columns: ours to theirs.
        noise: of the chat environment's choices, see there.
        ranking_weight: of the ranking's error.
        max_rejected_share: of bad rows, which are left out and counted.
    """

    name = "judge"

    def __init__(
        self,
        path: Place | None = None,
        paths: Mapping[str, Place] | None = None,
        shares: Mapping[str, float] = SHARES,
        shape: str = "auto",
        columns: Mapping[str, str] | None = None,
        noise: float = 0.12,
        ranking_weight: float = 1.0,
        max_rejected_share: float = 0.01,
    ) -> None:
        if ranking_weight <= 0 or noise < 0.01:
            raise ValueError("ranking_weight is above 0, and noise 0.01 or more")
        self.shape, self.columns, self.noise = shape, dict(columns or {}), noise
        self.ranking_weight = ranking_weight
        self.files: RowFiles | None = None
        self.rows: dict[Split, list[Labelled]] = {}
        if path is not None or paths is not None:
            self.files = RowFiles(path, paths, shares, max_rejected_share)
            found = self.files.read(self._labelled)
            self.rows = {split: [r for r in rows if r.pair is not None] for split, rows in found.items()}

    @classmethod
    def fingerprint(cls, options: Mapping[str, Any]) -> str:
        """Of the files that the options name."""
        given = options.get("path") is not None or options.get("paths") is not None
        return fingerprint_rows(options) if given else ""

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        if self.files is None:
            return self._from_chat(split, count, seed)
        drawn = self.files.draw(self.rows[split], split, count, seed)
        return [self._task(f"{self.name}/{split}/{row.id}", row.where, row) for row in drawn]

    def open(self, task: Task) -> World | None:
        return None

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        """Parts: `agrees` (1 for the right side, a half for neither), and both errors as shares of the largest."""
        gold = task.gold
        try:
            found = read_judgement(str(completion[-1].get("content") or ""))
        except Unreadable as error:
            return Verdict(0.0, "unparsable", str(error))
        first_better = gold["first_better"]
        if gold["ranking"] is None:
            side = found.ranking - 3 if first_better else 4 - found.ranking
            ranking_error, most = max(0.0, side), 3.0
        else:
            ranking_error = abs(found.ranking - gold["ranking"])
            most = float(SECOND_MUCH_BETTER - FIRST_MUCH_BETTER)
        missed, worst = self.ranking_weight * ranking_error, self.ranking_weight * most
        prefers_first = found.preference()
        parts = {
            "agrees": prefers_first if first_better else 1 - prefers_first,
            "ranking_error": ranking_error / most,
        }
        if gold["helpfulness"] is not None:
            off = sum(abs(h - told) for h, told in zip(found.helpfulness, gold["helpfulness"], strict=True))
            parts["helpfulness_error"] = off / (2 * (HIGHEST - LOWEST))
            missed, worst = missed + off, worst + 2 * (HIGHEST - LOWEST)
        return Verdict(1 - missed / worst, parts=parts)

    def _from_chat(self, split: Split, count: int, seed: int) -> list[Task]:
        tasks = []
        for pair in ChatEnvironment().pairs(split, count, seed, self.noise):
            topic = pair.task.gold["topic"]
            has = [round(sum(attributes(answer, topic).values())) for answer in (pair.chosen, pair.rejected)]
            # Who mistook the better answer for the worse rated them so, too.
            better, worse = max(has), min(has)
            row = Labelled(
                pair.task.id.partition("/")[2],
                pair.task.template,
                Preference(pair.task.messages, pair.chosen, pair.rejected),
                (max(LOWEST, better), max(LOWEST, worse)),
                min(_MUCH, max(_SLIGHTLY, better - worse)),
            )
            tasks.append(self._task(f"{self.name}/{row.id}", row.where, row))
        return tasks

    def _task(self, name: str, template: str, row: Labelled) -> Task:
        """The two answers in an order that depends on the row alone."""
        pair = row.pair
        assert pair is not None
        first_better = random.Random(f"{name}/order").random() < 0.5
        answers = (pair.chosen, pair.rejected) if first_better else (pair.rejected, pair.chosen)
        ranking = None if row.level is None else 4 - row.level if first_better else 3 + row.level
        rated = row.helpfulness if first_better or row.helpfulness is None else row.helpfulness[::-1]
        told = rated or ((4, 2) if first_better else (2, 4))
        answer = write_judgement(told, ranking or (2 if first_better else 5))
        return Task(
            id=name,
            environment=self.name,
            template=template,
            messages=judge_messages(pair.prompt, *answers),
            gold={"first_better": first_better, "ranking": ranking, "helpfulness": rated},
            demonstration=[{"role": "assistant", "content": answer}],
        )

    def _labelled(self, raw: Any, where: str) -> Labelled:
        pair = to_preference(raw, self.shape, self.columns)
        if pair is None:
            tie = fingerprint_bytes(json.dumps(raw, sort_keys=True, default=str).encode())
            return Labelled(tie[:24], where, None)
        # Pairs of one prompt are in one split: what decides it is the id's beginning.
        prompt, answers = (
            fingerprint_bytes(json.dumps(part, sort_keys=True).encode())
            for part in (pair.prompt, [pair.chosen, pair.rejected])
        )
        name = f"{prompt[:12]}{answers[:12]}"
        if pair.helpfulness is not None:
            chosen, rejected = (int(h + 0.5) for h in pair.helpfulness)
            gap = pair.helpfulness[0] - pair.helpfulness[1]
            return Labelled(name, where, pair, (chosen, rejected), 1 if gap <= 1 else 2 if gap <= 2 else 3)
        level = None
        if isinstance(raw, dict) and "overall_preference" in {*raw, *self.columns}:
            if pair.margin not in (1, 2, 3):
                raise RowError(f"overall_preference of size {pair.margin}: a whole number is needed")
            level = int(pair.margin)
        return Labelled(name, where, pair, None, level)
