"""Run the solutions of a lesson's exercises, as its last cell does: `run('04_guidance.ipynb', globals())`.

The solutions stand in the text, folded, where they are never executed. While the book is tested this makes sure that
they work: each runs after the lesson's own cells and sees their names, in a copy, so that none sees another's.
"""
import contextlib
import io
import re

import matplotlib.pyplot as plt
from fastcore.nbio import read_nb


def solutions(path):
    "List the code of a lesson's solutions, exercise by exercise."
    text = '\n'.join(cell.source for cell in read_nb(path).cells if cell.cell_type == 'markdown')
    folded = re.findall(r'<details>.*?</details>', text.partition('## Exercises')[2], re.S)
    return ['\n'.join(re.findall(r'```python\n(.*?)```', part, re.S)) for part in folded]


def run(path, names):
    "Run the solutions one by one, quietly; say which one failed."
    for number, code in enumerate(solutions(path), 1):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try: exec(compile(code, f'<solution {number} of {path}>', 'exec'), dict(names))
            except Exception as e:
                e.add_note(f'in the solution of exercise {number} of {path}')
                raise
        plt.close('all')
