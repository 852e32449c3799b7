"""Where each stage came from: seeds, versions, fingerprints, time, and the config it ran with."""

from typing import Any

from alloy.report.lenient import mapping, number, text
from alloy.report.notation import count, duration, escape
from alloy.report.record import Stage

_SHORT = 10
_COLUMNS = (
    "stage",
    "finished",
    "device",
    "seed",
    "time",
    "tokens",
    "tokens/s",
    "config",
    "data",
    "weights",
    "code",
)


def provenance(stages: list[Stage]) -> str:
    """A row a finished stage, the versions they ran with, and every config folded."""
    finished = [stage for stage in stages if stage.artifact]
    parts = []
    if finished:
        head = "".join(f"<th scope=col>{name}</th>" for name in _COLUMNS)
        parts.append(
            '<div class="scroll" tabindex="0" role="region" aria-label="provenance"><table class="plain">'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, finished))}</tbody></table></div>"
        )
        parts.append(_versions(finished))
    configs = "".join(
        f'<details class="more"><summary>config of {escape(stage.name)}</summary>'
        f"<pre>{escape(stage.config)}</pre></details>"
        for stage in stages
        if stage.config
    )
    return "".join(parts) + (f'<div class="configs">{configs}</div>' if configs else "")


def _row(stage: Stage) -> str:
    artifact = stage.artifact
    seconds, tokens = number(artifact.get("seconds")), number(artifact.get("tokens"))
    processes = number(artifact.get("world_size")) or 1
    device = text(artifact.get("device")) or "–"
    cells = [
        escape(text(artifact.get("created"))[:16].replace("T", " ") or "–"),
        escape(device if processes == 1 else f"{device} × {processes:g}"),
        _plain(artifact.get("seed")),
        duration(seconds) if seconds is not None else "–",
        count(tokens) if tokens else "–",
        count(tokens / seconds) if tokens and seconds else "–",
        *(_short(mapping(artifact.get("fingerprints")).get(name)) for name in ("config", "data", "weights")),
        _short(artifact.get("git_revision"), 18),
    ]
    return f"<tr><th scope=row>{escape(stage.name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _plain(value: Any) -> str:
    known = number(value)
    return "–" if known is None else f"{known:.0f}"


def _short(value: Any, length: int = _SHORT) -> str:
    whole = text(value)
    return f'<code title="{escape(whole)}">{escape(whole[:length])}</code>' if whole else "–"


def _versions(stages: list[Stage]) -> str:
    """Each version once; a package that stages had in different versions names them."""
    found: dict[str, dict[str, list[str]]] = {}
    for stage in stages:
        for package, version in mapping(stage.artifact.get("versions")).items():
            found.setdefault(package, {}).setdefault(str(version), []).append(stage.name)
    if not found:
        return ""
    listed = []
    for package, versions in found.items():
        if len(versions) == 1:
            told = escape(next(iter(versions)))
        else:
            told = "; ".join(f"{escape(v)} ({escape(', '.join(names))})" for v, names in versions.items())
        listed.append(f"<span><i>{escape(package)}</i> {told}</span>")
    return f'<p class="versions">{"".join(listed)}</p>'
