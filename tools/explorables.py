"""Put sliders over stored images on pages of the website: used by tools/site.py.

In a running notebook `explore` (00i) makes such sliders, with a kernel behind them. Where what it draws comes from a
stored sheet of images, a page can have the same sliders without one: tools/site_files/explore.js moves the sheet behind
a few windows. The cell that calls `explore` stays on the page, and the sliders stand below it.
"""
import csv
import html
import json
from pathlib import Path

from fastcore.nbio import mk_cell

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT/'nbs'/'logs'
SKS, DOG, CAT = (f'a photo of {words}' for words in ('sks dog', 'a dog', 'a cat'))
WEIGHTS, STEPS, SCALES = ('0', '0.1', '0.3', '1', '3'), ('0', '20', '40', '80', '160', '320'), ('4', '1', '7.5')


def prior_runs(rows, axes):
    "Describe the sheet of benchmarks/prior_runs.py: a row for each weight and step, six images for each scale."
    with open(LOGS/'prior-runs.csv', encoding='utf-8') as f: measured = list(csv.DictReader(f))
    places = [(row['prior_loss_weight'], row['step']) for row in measured]
    if places != [(weight, step) for weight in WEIGHTS for step in STEPS]:
        raise SystemExit(f'nbs/logs/prior-runs.csv: has other weights or steps than {WEIGHTS} and {STEPS}')
    said = [f"Of 24 images at guidance scale 4: likeness of 'sks dog' {float(row['likeness']):.2f}, "
            f"PRES of 'a dog' {float(row['pres']):.2f}" for row in measured]
    return dict(sheet='_static/prior-runs.webp', sheet_columns=6*len(SCALES), sheet_rows=len(places), columns=2,
                axes=axes, rows=rows, said=said)


WEIGHT = dict(name='prior_loss_weight', values=WEIGHTS, start=0, down=len(STEPS))
STEP = dict(name='step', values=STEPS, start=0, down=1)
SCALE = dict(name='guidance_scale', values=SCALES, start=0, right=6)
PAGES = {   # notebook -> what its cell begins to call, and the sliders
    '06_prior.ipynb': ('explore(stored,', [[SKS, 0], [DOG, 2], [CAT, 4]], [WEIGHT, STEP, SCALE]),
    '10_evaluation.ipynb': ('explore(checkpoint,', [[SKS, 0], [DOG, 2]], [STEP, WEIGHT])}
SHEETS = [LOGS/'prior-runs.webp']


def add_explorables(name, notebook):
    "Put sliders below the cell that would make them in a running notebook, in place."
    if name not in PAGES: return
    call, rows, axes = PAGES[name]
    found = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == 'code' and call in cell.source]
    if len(found) != 1: raise SystemExit(f'nbs/{name}: {len(found)} cells call {call} ...), and one is needed')
    spec = html.escape(json.dumps(prior_runs(rows, axes)), quote=True)
    notebook.cells.insert(found[0] + 1, mk_cell(f'<div class="explorable" data-explorable="{spec}"></div>', 'markdown'))
