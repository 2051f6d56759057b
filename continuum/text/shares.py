"""How near a division of a corpus comes to the share that was asked."""

from dataclasses import dataclass

TOLERANCE = 0.25
"""Of the smaller side: by how much of it a share may be off."""


@dataclass(frozen=True)
class Sides:
    """What validation got, and what there is; documents that are divided are on both sides."""

    validation_chars: int
    total_chars: int
    validation_documents: int
    training_documents: int

    def problem(self, fraction: float) -> str | None:
        """Why this is no division by `fraction`, and what to do; None if it is one."""
        if error_of(self.validation_chars, self.total_chars, fraction) <= TOLERANCE:
            return None
        training_chars = self.total_chars - self.validation_chars
        slack = TOLERANCE * min(fraction, 1 - fraction)
        least, most = ((fraction + sign * slack) * self.total_chars for sign in (-1, 1))
        return (
            f"validation: {{fraction: {fraction:g}}} asks for {fraction * self.total_chars:,.0f} "
            f"of {self.total_chars:,} characters ({least:,.0f} to {most:,.0f} would do), but "
            f"validation got {self.validation_chars:,} of {self.validation_documents:,} "
            f"document(s) ({self.validation_chars / self.total_chars:.2%}), and training "
            f"{training_chars:,} of {self.training_documents:,}; documents this few, long or short "
            "cannot be divided so: state another fraction, name the validation text by `files` or "
            "`corpus`, or add text"
        )


def error_of(part: int, total: int, fraction: float) -> float:
    """How far a part is from a fraction of the total, as a share of the smaller side."""
    if not total:
        return 0.0
    # The ratios of equal numbers may differ in their last bit.
    return round(abs(part / total - fraction) / min(fraction, 1 - fraction), 9)
