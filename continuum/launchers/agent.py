"""torchrun that does not outlive the run that started it."""

import sys

from continuum.worker import die_with_parent


def main() -> None:
    """Arguments are torchrun's."""
    die_with_parent()
    from torch.distributed.run import main as torchrun

    torchrun(sys.argv[1:])


if __name__ == "__main__":
    main()
