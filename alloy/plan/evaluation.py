"""What the evaluation stage does (`alloy.evaluate`)."""

from alloy.evaluate.config import EvaluateConfig
from alloy.plan.launch import Launch
from alloy.plan.tasks import suite_sampling
from alloy.plan.work import Work


def work(config: EvaluateConfig, launch: Launch) -> Work:
    sampling, notes = suite_sampling(config.suites.items(), config.rollout, launch, len(config.models))
    if launch.devices > 1:
        notes = (*notes, "measured in one process: one device of them works")
    return Work(start="models", makes="nothing", sampling=sampling, models=0, notes=notes)
