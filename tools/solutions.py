"""Run the solutions of a lesson's exercises, as its last cell does: `run('04_guidance.ipynb', globals())`.

The solutions stand in the text, folded, where they are never executed. While the book is tested this makes sure that
they work: each runs after the lesson's own cells and sees their names, in a copy, so that none sees another's. What
they print and draw is for their reader; that they work shows in a few steps as well, so `train` and `generate` take
no more.
"""
import contextlib
import io
import re
from dataclasses import replace
from unittest.mock import patch

import matplotlib.pyplot as plt
from fastcore.nbio import read_nb

STEPS = 4   # of a training and of sampling, and class images


def solutions(path):
    "List the code of a lesson's solutions, exercise by exercise."
    text = '\n'.join(cell.source for cell in read_nb(path).cells if cell.cell_type == 'markdown')
    folded = re.findall(r'<details>.*?</details>', text.partition('## Exercises')[2], re.S)
    return ['\n'.join(re.findall(r'```python\n(.*?)```', part, re.S)) for part in folded]


@contextlib.contextmanager
def in_few_steps():
    "While it runs, a new training and what samples images end after `STEPS`; a resumed training goes on as it began."
    from dreambooth_nb import training
    from dreambooth_nb.sampling import Sampling
    run_training, resolve = training.run_training, Sampling.resolve
    def run_briefly(config, *args, **settings):
        if not config.resume_from_checkpoint:
            config = replace(config, max_train_steps=min(config.max_train_steps or STEPS, STEPS),
                             num_class_images=min(config.num_class_images, STEPS))
        return run_training(config, *args, **settings)
    def resolve_briefly(sampling, pipeline):
        return resolve(replace(sampling, num_inference_steps=min(sampling.num_inference_steps, STEPS)), pipeline)
    with patch.object(training, 'run_training', run_briefly), patch.object(Sampling, 'resolve', resolve_briefly): yield


def run(path, names):
    "Run the solutions one by one, quietly; say which one failed."
    for number, code in enumerate(solutions(path), 1):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), in_few_steps():
            try: exec(compile(code, f'<solution {number} of {path}>', 'exec'), dict(names))
            except Exception as e:
                e.add_note(f'in the solution of exercise {number} of {path}')
                raise
        plt.close('all')
