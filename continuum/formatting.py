"""Format bytes, FLOPs, seconds and digests for people."""

from datetime import timedelta


def format_bytes(size: object) -> str:
    """`1.3 GB`; empty for None."""
    if not isinstance(size, (int, float)):
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_flops(operations: float) -> str:
    """`1.2 PFLOPs`: a number of floating-point operations, not a rate."""
    value = float(operations)
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if abs(value) < 1000:
            return f"{value:.3g} {prefix}FLOPs"
        value /= 1000
    return f"{value:.3g} ZFLOPs"


def plural(number: float, noun: str, nouns: str = "") -> str:
    """`1 stage`, `2,000 stages`, `0.5 epochs`.

    Args:
        nouns: The plural, if it is not the noun with an s.
    """
    text = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{text} {noun if number == 1 else nouns or f'{noun}s'}"


def short_digest(digest: object) -> str:
    """The first 12 letters of a digest or a commit; `(none)` for None."""
    return "(none)" if digest is None else str(digest)[:12]


def format_seconds(seconds: float) -> str:
    """`0:02:05`, or `3 s` below a minute."""
    return f"{seconds:.0f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def format_age(seconds: float | None) -> str:
    """`12 s`, `5 min`, `3 h` or `8 d`; empty for None."""
    if seconds is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
