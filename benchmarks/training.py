"""Training speed and memory of this package against a plain loop, and against diffusers' own script.

    python benchmarks/training.py --output results.md
    python benchmarks/training.py --model sd15 --steps 8 --diffusers_script path/to/train_dreambooth.py

All contestants train the same model on the same images, with the same batch, loss, AdamW, clipping and precision
(fp32, or with --precision default each its own), each in a fresh process of its own, in the order A B A B. README.md
next to this file says what is compared.
"""
import argparse
import json
import statistics
import sys
import tempfile
from itertools import product
from pathlib import Path

from contestants import CASES, CONTESTANTS
from materials import MODELS, PIXELS
from processes import child

STEPS, BATCH, QUICK = {'toyland': 60, 'small': 60, 'sd15': 10}, {'toyland': 4, 'small': 2, 'sd15': 4}, 6
# what rows are told apart by, beside model and case: the column's head, and the value that needs no column
CONDITIONS = dict(resolution=('pixels', None), precision=('precision', 'same'), compile=('compiled', False),
                  neighbours=('busy neighbours', 0))

# ---- the table

def condition_of(row): return tuple(row[key] for key in ('model', 'case', *CONDITIONS))

def columns_of(rows):
    "Choose the conditions that deserve a column: those that vary, or are not the usual ones."
    values = {key: {row[key] for row in rows} for key in CONDITIONS}
    def is_news(key, usual): return len(values[key]) > 1 or usual not in (None, *values[key])
    return [key for key, (_, usual) in CONDITIONS.items() if is_news(key, usual)]

def medians(rows):
    "Return the medians over the rounds; {} without rows, or if one has a note instead of figures."
    if not rows or any('note' in row for row in rows): return {}
    keys = [key for key in ('seconds', 'cpu_seconds', 'to_first_step', 'peak_training', 'peak', 'peak_gpu', 'needed')
            if rows[0][key] is not None]
    return {key: statistics.median(row[key] for row in rows) for key in keys} | dict(computed_in=rows[0]['computed_in'])

def word(value): return {True: 'yes', False: 'no'}[value] if isinstance(value, bool) else str(value)

def memory_of(figures): return figures.get('peak_gpu') or figures['peak']

def figures_of(
    ours:dict,      # from `medians`
    rivals:list,    # of `medians`
    where:dict,     # from `machine`
)->list[str]:
    "Write a contestant's figures, and how they stand to its rivals'."
    cells = [ours['computed_in'], f"{1/ours['seconds']:.3g}", f"{ours['cpu_seconds']:.3g}",
             f"{ours['to_first_step']:.1f}", f"{ours['peak_training']:.2f}", f"{ours['peak']:.2f}"]
    if where['is_gpu']: cells.append(f"{ours['peak_gpu']:.2f}")
    for other in rivals:
        cells.append(f"{other['seconds']/ours['seconds']:.2f}x" if other else '')
        cells.append(f'{memory_of(ours)/memory_of(other):.2f}' if other else '')
    return [*cells, f"{ours['needed']/ours['seconds']/where['rates'][ours['computed_in']]:.0%}"]

def table(
    rows:list[dict],    # one per model, case, condition, round and contestant
    where:dict,         # from `machine`
)->str: # Markdown
    "Show the median over the rounds, and each figure in relation to the plain loop's and diffusers'."
    rivals = [k for k in 'AC' if any(r['contestant'] == k for r in rows)]
    columns = columns_of(rows)
    head = ['model, trained', *(CONDITIONS[key][0] for key in columns), 'contestant', 'computed in', 'steps/s',
            'CPU s/step', 's to first step', 'peak GB training', 'peak GB in all'] + ['peak GPU GB']*where['is_gpu']
    head += [f'{what} vs {k}' for k in rivals for what in ('speed', 'memory')] + ['share of matmul rate']
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|'*len(head)]
    for condition in dict.fromkeys(map(condition_of, rows)):
        groups = {k: [r for r in rows if condition_of(r) == condition and r['contestant'] == k] for k in CONTESTANTS}
        for k, own in groups.items():
            if not own: continue
            cells = [f"{MODELS[own[0]['model']]}, {CASES[own[0]['case']]}", *(word(own[0][key]) for key in columns),
                     f'{k} {CONTESTANTS[k]}']
            if ours := medians(own): cells += figures_of(ours, [medians(groups[rival]) for rival in rivals], where)
            else: cells.append(next(r['note'] for r in own if 'note' in r))
            lines.append('| ' + ' | '.join(cells + ['']*(len(head) - len(cells))) + ' |')
    return '\n'.join(lines)

PRECISIONS = dict(same='fp32 for all', default="each contestant's own default precision", bf16='mixed bf16 for all')

def report(rows:list[dict], where:dict)->str: # Markdown
    "Put the conditions under the table."
    def join(notes): return '; '.join(f'{k}: {v}' for k, v in notes.items())
    def samples(r): return f"{r['batch']} instance + {r['batch']} class samples"
    def steps(r): return f"{r['steps']} steps, the first {r['warmup']} + 1 not counted"
    def gflop(r):
        vae = f"{r['vae']/r['needed']:.0%} of the former for the VAE"
        return f"{r['needed']/1e9:.1f} GFLOP (a plain loop computes {r['plain']/1e9:.1f}, {vae})"
    flops = {f"{MODELS[r['model']]}, {CASES[r['case']]}, {r['resolution']} pixels": gflop(r) for r in rows}
    rates = ', '.join(f'{rate/1e9:.0f} GFLOP/s in {dtype}' for dtype, rate in where['rates'].items())
    packages = 'python', 'torch', 'diffusers', 'transformers', 'lightning'
    versions = ', '.join(f'{name} {where[name]}' for name in packages)
    precisions = '; '.join(PRECISIONS[name] for name in dict.fromkeys(r['precision'] for r in rows))
    return f"""{table(rows, where)}

- {where['device']}; matrix products reach {rates}. {versions}.
- {join({MODELS[r['model']]: f'{samples(r)} per step, {steps(r)}' for r in rows})}.
- {precisions}; AdamW, gradient norm clipped at 1. Rounds in turn: {max(r['round'] for r in rows) + 1}; medians over
  steps, then over rounds.
- Needed per step: {join(flops)}.
"""


# ---- one command that runs them all

def measured(
    job:dict,               # what `contestants.measure` takes
    threads:int|None,       # of OpenMP
    round:int,              # for the row
    may_fail:bool=False,    # then the row gets a note, instead of an exception
)->dict: # the row of one run
    "Measure one contestant."
    row = {key: job[key] for key in (*CONDITIONS, 'model', 'case', 'contestant', 'batch', 'steps', 'warmup')}
    try: return row | dict(round=round) | child('contestants:measure', threads, **job)
    except RuntimeError as error:
        if not may_fail: raise
        print(error, file=sys.stderr)
        return row | dict(round=round, note='out of memory' if 'OutOfMemory' in str(error) else 'failed')

def describe(row)->str:
    "Say in one line what a run gave."
    conditions = ', '.join(f'{CONDITIONS[key][0]} {row[key]}' for key in CONDITIONS)
    name = f"{row['model']}, {row['case']}, {conditions}, round {row['round'] + 1}, {row['contestant']}: "
    if 'note' in row: return name + row['note']
    return name + (f"{row['seconds']:.3g} s/step, {row['cpu_seconds']:.3g} CPU s/step, "
                   f"first step after {row['to_first_step']:.1f} s, "
                   f"peak {row['peak_training']:.2f} GB training, {row['peak']:.2f} GB in all")

def collect(
    rows,               # an iterator of rows, each measured when it is asked for
    where:dict,         # from `machine`
    output:str|None,    # file for the table; the rows go next to it as .json
)->None:
    "Print each row as it comes, and the table in the end."
    done = []
    for row in rows:
        done.append(row)
        print(describe(row), file=sys.stderr, flush=True)
        if output: Path(output).with_suffix('.json').write_text(json.dumps(dict(where=where, rows=done), indent=1))
    text = report(done, where)
    print(text)
    if output: Path(output).write_text(text, encoding='utf-8')

def chosen(choice, among): return list(among) if choice == 'both' else [choice]

def runs(arguments, order):
    "Measure one contestant after the other; yield a row for each."
    a = arguments
    for model in chosen(a.model, STEPS) if a.model != 'both' else ('toyland', 'sd15'):
        work = dict(model=model, batch=a.batch or BATCH[model], resolution=PIXELS[model],
                    steps=a.steps or (QUICK if a.quick else STEPS[model]), warmup=a.warmup, compile=a.torch_compile,
                    script=a.diffusers_script, settings=json.loads(a.settings))
        with tempfile.TemporaryDirectory(dir=a.scratch) as folder:
            child('materials:prepare', folder=folder, **work)
            for case in chosen(a.case, CASES):
                flops = child('materials:step_flops', folder=folder, case=case, **work)
                conditions = product(chosen(a.precision, ('same', 'default')), a.neighbour)
                for precision, neighbours in conditions:
                    for number, contestant in product(range(1 if a.quick else a.rounds), order):
                        job = work | dict(folder=folder, case=case, precision=precision, neighbours=neighbours,
                                          contestant=contestant)
                        yield measured(job, a.threads, number) | flops

def parse(parser):
    "Read the arguments; add the script to the contestants if it is given, and refuse C without it."
    a = parser.parse_args()
    order = a.contestants + ('C' if a.diffusers_script and 'C' not in a.contestants else '')
    if 'C' in order and not Path(a.diffusers_script or '').is_file():
        parser.error('contestant C needs --diffusers_script=PATH of train_dreambooth.py')
    return a, order

def add_contestants(parser, default='AB', more=''):
    "Add the arguments about who is compared."
    parser.add_argument('--contestants', default=default,
                        help=f'in the order of each round: A plain loop, B this package, C diffusers{more}; '
                             f'default: {default}')
    parser.add_argument('--diffusers_script',
                        help='train_dreambooth.py of a diffusers checkout; adds contestant C (needs torchvision)')
    parser.add_argument('--scratch', help='folder for the models and outputs, emptied afterwards')
    parser.add_argument('--output', help='write the table here too; the single runs go next to it as .json')
    parser.add_argument('--quick', action='store_true', help='few steps, one round: to see that it runs')

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', choices=[*STEPS, 'both'], default='both',
                        help='both (default): toyland and sd15; sd15 needs 18 GB of memory and 9 GB of disk')
    parser.add_argument('--case', choices=[*CASES, 'both'], default='both',
                        help='what is trained; default: both')
    parser.add_argument('--precision', choices=['same', 'default', 'both'], default='same',
                        help='same (default): fp32 for all; default: each contestant as it comes')
    parser.add_argument('--steps', type=int, help=f'optimiser steps of each run, warm-up included; default: {STEPS}')
    parser.add_argument('--warmup', type=int, default=2, help='steps before the clock starts; default: 2')
    parser.add_argument('--batch', type=int,
                        help=f'instance samples per step, and as many class samples; default: {BATCH}')
    parser.add_argument('--rounds', type=int, default=2, help='how often each contestant runs; default: 2')
    parser.add_argument('--threads', type=int, help="of each process; torch's choice if left out")
    parser.add_argument('--neighbour', type=int, nargs='+', default=[0], metavar='N',
                        help='busy processes beside each run; several numbers are measured one after the other')
    parser.add_argument('--torch_compile', action='store_true', help='compile the UNet')
    parser.add_argument('--settings', default='{}', help="further settings of B's `train`, as JSON")
    add_contestants(parser)
    arguments, order = parse(parser)
    collect(runs(arguments, order), child('materials:machine', arguments.threads), arguments.output)


if __name__ == '__main__': main()
