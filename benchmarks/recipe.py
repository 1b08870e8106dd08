"""In how few steps an embedded model learns a subject as well as in 400: rate, schedule and steps, tried out.

    python benchmarks/recipe.py                                             # what nbs/logs/recipe.csv does not have yet
    python benchmarks/recipe.py --recipes '300 steps, 3e-4, cosine' --subjects sky_teapot
    python benchmarks/recipe.py --model toyland-flow                        # nbs/logs/recipe-flow.csv
    python benchmarks/recipe.py --table                                     # the means, as Markdown

One row per run, written when the run is done: a subject, a recipe, with or without prior preservation, measured as the
demo measures it. Class images come from the model as `--class_steps` steps draw them. A subject's first rows are of the
untrained model and of further real images, which say what there is to gain.
"""
import argparse
import csv
import statistics
import time
from pathlib import Path

from dreambooth_nb.evaluation import GUIDANCE_SCALE, measure, subject_fidelity
from dreambooth_nb.drawing import render
from dreambooth_nb.judge import load_judge
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.prior_images import class_images
from dreambooth_nb.subject import Subject
from dreambooth_nb.toyland import SUBJECTS, subject_scenes
from dreambooth_nb.training import train

LOGS = Path(__file__).resolve().parent.parent/'nbs'/'logs'
FILES = {'toyland': 'recipe.csv', 'toyland-flow': 'recipe-flow.csv'}
RECIPES = {
    '400 steps, 1e-4': dict(max_train_steps=400),
    '200 steps, 2e-4, cosine': dict(max_train_steps=200, learning_rate=2e-4, lr_scheduler='cosine'),
    '200 steps, 3e-4, cosine': dict(max_train_steps=200, learning_rate=3e-4, lr_scheduler='cosine'),
    '250 steps, 2e-4, linear': dict(max_train_steps=250, learning_rate=2e-4, lr_scheduler='linear'),
    '160 steps, 3e-4, linear': dict(max_train_steps=160, learning_rate=3e-4, lr_scheduler='linear'),
    '250 steps, 3e-4, cosine': dict(max_train_steps=250, learning_rate=3e-4, lr_scheduler='cosine'),
    '250 steps, 2.5e-4, linear': dict(max_train_steps=250, learning_rate=2.5e-4, lr_scheduler='linear'),
    '300 steps, 3e-4, cosine': dict(max_train_steps=300, learning_rate=3e-4, lr_scheduler='cosine'),
    '300 steps, 6e-4, cosine': dict(max_train_steps=300, learning_rate=6e-4, lr_scheduler='cosine'),
    '300 steps, 1e-3, cosine': dict(max_train_steps=300, learning_rate=1e-3, lr_scheduler='cosine')}
MEASURES = 'subject_fidelity', 'places', 'pres', 'div', 'class_diversity'

def references_of(subject): return [render(scene, 64) for scene in subject_scenes(subject.name, 25)[5:]]

def measured(pipeline, judge, subject, guidance_scale):
    "Return a row's measures."
    scores = measure(pipeline, subject, judge, references_of(subject), progress=False, guidance_scale=guidance_scale,
                     precision='auto').scores
    scores['places'] = statistics.mean(scores['contexts'].values())
    return {name: round(scores[name], 4) for name in MEASURES}

def run(base, judge, subject, recipe, prior, seed, guidance_scale):
    "Train and measure; return a row."
    started = time.process_time()
    how = dict(prior=prior) if prior else dict(with_prior_preservation=False)
    trained = train(subject, model=base, seed=seed, progress=False, **how, **RECIPES[recipe])
    cpu_seconds = time.process_time() - started
    return measured(trained.pipeline, judge, subject, guidance_scale) | dict(cpu_seconds=round(cpu_seconds, 1))

def limits(base, judge, subject, guidance_scale):
    "Return what there is to gain: the untrained model, and real images against others."
    real = subject_fidelity(judge, subject.images, references_of(subject)).mean().item()
    return {'untrained': measured(base, judge, subject, guidance_scale),
            'real images': dict.fromkeys(MEASURES, '') | dict(subject_fidelity=round(real, 4))}

def rows(log): return list(csv.DictReader(log.open(encoding='utf-8'))) if log.exists() else []

def write(log, row):
    "Append a row."
    is_new = not log.exists()
    with log.open('a', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, list(row), lineterminator='\n')
        if is_new: writer.writeheader()
        writer.writerow(row)

def table(found)->str: # Markdown
    "Show the means over subjects, and over how many."
    lines = ['| recipe | class images | prior | subjects | likeness | places | PRES | DIV | class DIV | CPU s |',
             '|---|---|---|---:|---:|---:|---:|---:|---:|---:|']
    for recipe, steps, prior in dict.fromkeys((r['recipe'], r['class_steps'], r['prior']) for r in found):
        own = [r for r in found if (r['recipe'], r['class_steps'], r['prior']) == (recipe, steps, prior)]
        values = {name: [float(r[name]) for r in own if r[name]] for name in (*MEASURES, 'cpu_seconds')}
        means = {name: f'{statistics.mean(v):.{0 if name == "cpu_seconds" else 3}f}' if v else ''
                 for name, v in values.items()}
        cells = [recipe, steps and f'{steps} steps', prior, str(len(own)), *means.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return '\n'.join(lines)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--model', choices=FILES, default='toyland')
    parser.add_argument('--recipes', nargs='+', choices=RECIPES, default=['400 steps, 1e-4', '300 steps, 3e-4, cosine'])
    parser.add_argument('--subjects', nargs='+', choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument('--class_steps', type=int, default=25, help='sampler steps of the class images')
    parser.add_argument('--guidance_scale', type=float, default=GUIDANCE_SCALE)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--table', action='store_true', help='print what is there, and run nothing')
    arguments = parser.parse_args()
    log = LOGS/FILES[arguments.model]
    if arguments.table: return print(table(rows(log)))
    base, judge, scale = load_pipeline(arguments.model), load_judge(), arguments.guidance_scale
    done = {(r['subject'], r['recipe'], r['prior'], r['class_steps'], r['seed']) for r in rows(log)}
    for name in arguments.subjects:
        subject = Subject.toyland(name)
        if (name, 'untrained', '', '', '') not in done:
            for what, found in limits(base, judge, subject, scale).items():
                key = dict(subject=name, recipe=what, prior='', class_steps='', seed='')
                write(log, key | found | dict(cpu_seconds=''))
        images = class_images(base, subject.class_prompt, seed=arguments.seed, guidance_scale=scale,
                              num_inference_steps=arguments.class_steps, progress=False)
        for recipe in arguments.recipes:
            for prior in ('with', 'without'):
                key = dict(subject=name, recipe=recipe, prior=prior, class_steps=str(arguments.class_steps),
                           seed=str(arguments.seed))
                if tuple(key.values()) in done: continue
                images_or_none = images if prior == 'with' else None
                row = key | run(base, judge, subject, recipe, images_or_none, arguments.seed, scale)
                write(log, row)
                print(row, flush=True)

if __name__ == '__main__': main()
