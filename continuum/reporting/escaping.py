"""Escape text for Markdown and LaTeX, so that no name becomes markup."""


def escape_markdown(text: str) -> str:
    """Text for a paragraph or a table cell of Markdown, without markup."""
    for letter in "\\`*_{}[]<>|#~$":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.replace("&", "&amp;").split())


LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#{}"},
    "_": r"\_\allowbreak{}",
    "/": r"/\allowbreak{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "-{}",
    "±": r"\textpm{}",
    "→": r"$\rightarrow$",
    "…": r"\dots{}",
    "\u2014": r"\textemdash{}",
    "\u2013": r"\textendash{}",
}
LATIN = frozenset(
    {*map(chr, range(0x20, 0x7F)), *map(chr, range(0xA1, 0x100))} - {"\u00ad"}
    | set("ĀāĂăĄąĆćČčĎďĐđĒēĖėĘęĚěĞğĢģĪīĮįİıĶķĹĺĻļĽľŁłŃńŅņŇňŊŋŌōŐőŒœŔŕŘřŚśŞşŠšŢţŤťŪūŮůŰűŲųŸŹźŻżŽž")
)
"""What pdflatex has in the fonts of its T1 encoding."""


def escape_latex(text: str) -> str:
    """Text for LaTeX; letters that pdflatex lacks become their code points, as U+4E2D."""
    return "".join(map(_latex_letter, " ".join(text.split())))


def _latex_letter(letter: str) -> str:
    if letter in LATEX:
        return LATEX[letter]
    return letter if letter in LATIN else f"\\textless{{}}U+{ord(letter):04X}\\textgreater{{}}"
