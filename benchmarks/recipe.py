"""In how few steps the embedded model learns a subject as well as in 400: rate, schedule and steps, tried out.

    python benchmarks/recipe.py                                             # what nbs/logs/recipe.csv does not have yet
    python benchmarks/recipe.py --recipes '300 steps, 3e-4, cosine' --subjects sky_teapot
    python benchmarks/recipe.py --table                                     # the means, as Markdown

One row per run, written when the run is done: a subject, a recipe, with or without prior preservation, measured as the
demo measures it. Class images come from the model as `--class_steps` steps draw them.
"""
import argparse
import csv
import statistics
import time
from pathlib import Path

from dreambooth_nb.evaluation import GUIDANCE_SCALE, measure
from dreambooth_nb.drawing import render
from dreambooth_nb.judge import load_judge
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.prior_images import class_images
from dreambooth_nb.subject import Subject
from dreambooth_nb.toyland import SUBJECTS, subject_scenes
from dreambooth_nb.training import train

LOG = Path(__file__).resolve().parent.parent/'nbs'/'logs'/'recipe.csv'
RECIPES = {
    '400 steps, 1e-4': dict(max_train_steps=400),
    '200 steps, 2e-4, cosine': dict(max_train_steps=200, learning_rate=2e-4, lr_scheduler='cosine'),
    '200 steps, 3e-4, cosine': dict(max_train_steps=200, learning_rate=3e-4, lr_scheduler='cosine'),
    '250 steps, 2e-4, linear': dict(max_train_steps=250, learning_rate=2e-4, lr_scheduler='linear'),
    '160 steps, 3e-4, linear': dict(max_train_steps=160, learning_rate=3e-4, lr_scheduler='linear'),
    '250 steps, 3e-4, cosine': dict(max_train_steps=250, learning_rate=3e-4, lr_scheduler='cosine'),
    '250 steps, 2.5e-4, linear': dict(max_train_steps=250, learning_rate=2.5e-4, lr_scheduler='linear'),
    '300 steps, 3e-4, cosine': dict(max_train_steps=300, learning_rate=3e-4, lr_scheduler='cosine')}
MEASURES = 'subject_fidelity', 'places', 'pres', 'div', 'class_diversity'

def run(base, judge, subject, recipe, prior, seed):
    "Train and measure; return a row."
    started = time.process_time()
    how = dict(prior=prior) if prior else dict(with_prior_preservation=False)
    trained = train(subject, model=base, seed=seed, progress=False, **how, **RECIPES[recipe])
    cpu_seconds = time.process_time() - started
    references = [render(scene, 64) for scene in subject_scenes(subject.name, 25)[5:]]
    scores = measure(trained.pipeline, subject, judge, references, progress=False, guidance_scale=GUIDANCE_SCALE,
                     precision='auto').scores
    scores['places'] = statistics.mean(scores['contexts'].values())
    return {name: round(scores[name], 4) for name in MEASURES} | dict(cpu_seconds=round(cpu_seconds, 1))

def rows(): return list(csv.DictReader(LOG.open(encoding='utf-8'))) if LOG.exists() else []

def write(row):
    "Append a row."
    is_new = not LOG.exists()
    with LOG.open('a', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, list(row), lineterminator='\n')
        if is_new: writer.writeheader()
        writer.writerow(row)

def table()->str: # Markdown
    "Show the means over subjects, and over how many."
    lines = ['| recipe | class images | prior | subjects | likeness | places | PRES | DIV | class DIV | CPU s |',
             '|---|---|---|---:|---:|---:|---:|---:|---:|---:|']
    found = rows()
    for recipe, steps, prior in dict.fromkeys((r['recipe'], r['class_steps'], r['prior']) for r in found):
        own = [r for r in found if (r['recipe'], r['class_steps'], r['prior']) == (recipe, steps, prior)]
        means = [statistics.mean(float(r[name]) for r in own) for name in (*MEASURES, 'cpu_seconds')]
        cells = [recipe, f'{steps} steps', prior, str(len(own)), *(f'{m:.3f}' for m in means[:-1]), f'{means[-1]:.0f}']
        lines.append(f"| {' | '.join(cells)} |")
    return '\n'.join(lines)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--recipes', nargs='+', choices=RECIPES, default=['400 steps, 1e-4', '300 steps, 3e-4, cosine'])
    parser.add_argument('--subjects', nargs='+', choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument('--class_steps', type=int, default=25, help='sampler steps of the class images')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--table', action='store_true', help='print what is there, and run nothing')
    arguments = parser.parse_args()
    if arguments.table: return print(table())
    base, judge = load_pipeline(), load_judge()
    done = {(r['subject'], r['recipe'], r['prior'], r['class_steps'], r['seed']) for r in rows()}
    for name in arguments.subjects:
        subject = Subject.toyland(name)
        images = class_images(base, subject.class_prompt, seed=arguments.seed, guidance_scale=GUIDANCE_SCALE,
                              num_inference_steps=arguments.class_steps, progress=False)
        for recipe in arguments.recipes:
            for prior in ('with', 'without'):
                key = dict(subject=name, recipe=recipe, prior=prior, class_steps=str(arguments.class_steps),
                           seed=str(arguments.seed))
                if tuple(key.values()) in done: continue
                row = key | run(base, judge, subject, recipe, images if prior == 'with' else None, arguments.seed)
                write(row)
                print(row, flush=True)

if __name__ == '__main__': main()
