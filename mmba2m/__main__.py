"""``python -m mmba2m``: prints a report on the environment."""

import sys

from mmba2m.environment_report import main

if __name__ == '__main__':
    sys.exit(main())
