"""`python -m continuum` is the `continuum` command."""

from continuum.cli import main

if __name__ == "__main__":
    main()
