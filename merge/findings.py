"""What checks of two parents found, each difference with its remedy."""

from dataclasses import dataclass, field

from merge.checkpoint import Role


@dataclass
class Findings:
    """What the checks found; a soft difference is an error unless the user named a donor."""

    donor: Role | None
    ours: Role
    theirs: Role
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def hard(self, difference: str, remedy: str) -> None:
        self.errors.append(f"{difference}. {remedy}")

    def soft(self, difference: str) -> None:
        if self.donor is None:
            self.hard(difference, f"Choose whose to keep: --donor {self.ours} or --donor {self.theirs}.")
        else:
            self.notes.append(f"{difference}; {self.donor}'s is kept.")
