"""``python -m service`` is ``cairn-serve``."""

from service.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
