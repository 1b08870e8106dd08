"Count the test cells that nbdev-test ran, from its log: `count_cells.py LOG STATUS` prints '412 passed, 0 failed'."
import re
import sys
from pathlib import Path

from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import nb_test_cells

log, status = Path(sys.argv[1]).read_text(encoding='utf-8', errors='replace'), int(sys.argv[2])
_, _, ending = log.partition('nbdev Tests Failed On The Following Notebooks:')
failed_notebooks = set(re.findall(r'^\s*(\S+\.ipynb)\s*$', ending, re.M))
stops = re.findall(r' in (\S+\.ipynb):\n=+\n\nWhile Executing Cell #(\d+)', log)
stopped_at = {Path(name).name: int(cell) for name, cell in stops}

passed = failed = skipped = 0
for path in sorted(nbglob(as_path=True)):
    if (path.parent/'.notest').exists(): continue
    cells = [cell.idx_ for cell in nb_test_cells(path, get_config().tst_flags)]
    if path.name in failed_notebooks:   # nbdev stops a notebook at its first failing cell
        done = sum(i + 1 < stopped_at.get(path.name, 0) for i in cells)
        passed, failed, skipped = passed + done, failed + 1, skipped + len(cells) - done - 1
    else: passed += len(cells)
if status and not failed: passed, failed, skipped = 0, 1, passed    # it ended without saying which notebook failed
if not passed + failed: sys.exit('no test cell ran')
print(f'{passed} passed, {failed} failed' + (f', {skipped} skipped' if skipped else ''))
