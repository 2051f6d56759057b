"""The `continuum` command, also as `python -m continuum`."""

from continuum.execution.safe_path import use_installed_modules


def main() -> None:
    """Run the command with the modules that are installed, whatever lies in the current folder."""
    use_installed_modules()
    from continuum.cli import main as run

    run()


if __name__ == "__main__":
    main()
