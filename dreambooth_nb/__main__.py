"`python -m dreambooth_nb` is the `dreambooth` command."
import sys

from dreambooth_nb.cli import main

if __name__ == '__main__': sys.exit(main())
