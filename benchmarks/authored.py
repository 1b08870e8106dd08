"""What is written about five photos, and what the identifier learns from it: class prompts and captions, tried out.

    python benchmarks/authored.py                       # what nbs/logs/authored.csv does not have yet
    python benchmarks/authored.py --subjects teal_dog --seeds 0 --prompts one authored --captions no
    python benchmarks/authored.py --table               # means and differences with intervals, as Markdown

Each bundled subject is photographed five times in one place, as people photograph their dog at home. Its class images
come from one prompt ('a photo of a dog'), from templates (`TOYLAND_TEMPLATES`) or from prompts that the embedded author
writes; its photos have the captions that the author writes, or the instance prompt alone. Training is the demo's: 300
steps, 3e-4 down a cosine, 100 class images of 15 sampler steps.

One row per run. likeness: to further real images, in its name's images and in other places; words: kind and place read
right in images of 'a photo of sks dog PLACE', for the nine places where it was not photographed; home: share of images
of 'a photo of sks dog' in the photos' place (a tenth where nothing of the place has been learned); leak: the same for
images that were asked for elsewhere; pres: how much 'a photo of a dog' resembles the subject; class_diversity: how
different the images of 'a photo of a dog' are.
"""
import argparse
import csv
import random
import statistics
from functools import cache
from pathlib import Path

import torch

from dreambooth_nb.author import author
from dreambooth_nb.drawing import render
from dreambooth_nb.evaluation import GUIDANCE_SCALE, diversity, prompt_fidelity, subject_fidelity
from dreambooth_nb.judge import load_judge
from dreambooth_nb.measures import bootstrap_interval
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.plan import TOYLAND_TEMPLATES, Plan
from dreambooth_nb.prior_images import class_images
from dreambooth_nb.sampling import generate
from dreambooth_nb.toyland import CONTEXTS, SUBJECTS, place
from dreambooth_nb.training import train

LOG = Path(__file__).resolve().parent.parent/'nbs'/'logs'/'authored.csv'
PROMPTS, CAPTIONS = ('one', 'templates', 'authored'), ('no', 'yes')
MEASURES = 'likeness', 'words', 'home', 'leak', 'pres', 'class_diversity'
RECIPE = dict(max_train_steps=300, learning_rate=3e-4, lr_scheduler='cosine')
HOW = dict(guidance_scale=GUIDANCE_SCALE, num_inference_steps=15, progress=False)
KEY = 'subject', 'prompts', 'captions', 'seed'


def home_of(name):
    "Return the place where a subject is photographed: each subject has one of its own."
    return [*CONTEXTS][[*SUBJECTS].index(name)]

def photos_of(name):
    "Photograph a subject five times at home."
    rng = random.Random(f'at home {name}')
    return [render(place(SUBJECTS[name], rng, home_of(name))) for _ in range(5)]

def references_of(name):
    "Photograph it elsewhere, for comparison."
    rng = random.Random(f'elsewhere {name}')
    return [render(place(SUBJECTS[name], rng)) for _ in range(20)]

@cache
def authored_plan(name): return author(photos_of(name), SUBJECTS[name].class_noun, progress=False)

def plan_of(name, prompts, captions):
    "Write what an arm of the experiment writes."
    noun = SUBJECTS[name].class_noun
    plan = dict(one=lambda: Plan(noun, class_prompts=[f'a photo of a {noun}']),
                templates=lambda: Plan.from_templates(noun, templates=TOYLAND_TEMPLATES),
                authored=lambda: authored_plan(name))[prompts]()
    return Plan(noun, plan.identifier, authored_plan(name).captions if captions == 'yes' else {}, plan.class_prompts)

def measured(pipeline, judge, name):
    "Return a row's measures."
    home, noun, real = home_of(name), SUBJECTS[name].class_noun, references_of(name)
    elsewhere = [context for context in CONTEXTS if context != home]
    named, of_class = (generate(pipeline, f'a photo of {who}', 16, seed=1000, **HOW)
                       for who in (f'sks {noun}', f'a {noun}'))
    placed = generate(pipeline, [f'a photo of sks {noun} {CONTEXTS[c]}' for c in elsewhere], 2, seed=1000, **HOW)
    asked = [{'class': noun, 'context': context} for context in elsewhere for _ in range(2)]
    def share_at_home(images): return statistics.mean(seen['context'] == home for seen in judge.read(images))
    scores = dict(
        likeness=subject_fidelity(judge, named + placed, real).mean().item(),
        words=prompt_fidelity(judge, placed, asked).mean().item(),
        home=share_at_home(named), leak=share_at_home(placed),
        pres=subject_fidelity(judge, of_class, real).mean().item(),
        class_diversity=diversity(judge, of_class).mean().item())
    return {measure: round(scores[measure], 4) for measure in MEASURES}

@cache
def prior_of(base, name, prompts):
    "Generate the class images of an arm."
    return class_images(base, plan_of(name, prompts, 'no').class_prompts, seed=0, **HOW)

def run(base, judge, name, prompts, captions, seed):
    "Train and measure."
    subject = plan_of(name, prompts, captions).subject(photos_of(name))
    trained = train(subject, base, prior=prior_of(base, name, prompts), seed=seed, progress=False, **RECIPE)
    return measured(trained.pipeline, judge, name)

def rows(): return list(csv.DictReader(LOG.open(encoding='utf-8'))) if LOG.exists() else []

def write(row):
    "Append a row."
    is_new = not LOG.exists()
    with LOG.open('a', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, [*KEY, *MEASURES], lineterminator='\n')
        if is_new: writer.writeheader()
        writer.writerow(row)

def interval(values):
    "Return mean and 95 % interval over subjects, each with the mean of its seeds; values by key."
    of_subject = {}
    for (subject, *_), value in values.items(): of_subject.setdefault(subject, []).append(value)
    means = [statistics.mean(of_one) for of_one in of_subject.values()]
    low, high = bootstrap_interval(torch.tensor(means))[:2]
    return f'{statistics.mean(means):.3f} ({low:.3f} to {high:.3f})'

def table(found)->str: # Markdown
    "Show each arm, and how it differs from one prompt without captions in the same subjects and seeds."
    by_key = {tuple(r[name] for name in KEY): {m: float(r[m]) for m in MEASURES} for r in found}
    lines = [f"| class prompts | captions | runs | {' | '.join(MEASURES)} |", '|---|---|---:|' + '---:|'*len(MEASURES)]
    for prompts, captions in ((p, c) for c in CAPTIONS for p in PROMPTS):
        own = {key: r for key, r in by_key.items() if key[1:3] == (prompts, captions)}
        if not own: continue
        cells = [interval({key: r[m] for key, r in own.items()}) for m in MEASURES]
        lines.append(f"| {prompts} | {captions} | {len(own)} | {' | '.join(cells)} |")
        pairs = {key: (r, by_key[key[0], 'one', 'no', key[3]]) for key, r in own.items()
                 if (key[0], 'one', 'no', key[3]) in by_key and (prompts, captions) != ('one', 'no')}
        if not pairs: continue
        cells = [interval({key: a[m] - b[m] for key, (a, b) in pairs.items()}) for m in MEASURES]
        lines.append(f"| difference from one, no | | {len(pairs)} | {' | '.join(cells)} |")
    return '\n'.join(lines)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--subjects', nargs='+', choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--prompts', nargs='+', choices=PROMPTS, default=PROMPTS)
    parser.add_argument('--captions', nargs='+', choices=CAPTIONS, default=CAPTIONS)
    parser.add_argument('--table', action='store_true', help='print what is there, and run nothing')
    arguments = parser.parse_args()
    if arguments.table: return print(table(rows()))
    base, judge = load_pipeline('toyland'), load_judge()
    for seed in arguments.seeds:
        for name in arguments.subjects:
            for prompts, captions in ((p, c) for c in arguments.captions for p in arguments.prompts):
                key = dict(zip(KEY, (name, prompts, captions, str(seed))))
                if any(all(r[k] == v for k, v in key.items()) for r in rows()): continue
                write(key | run(base, judge, name, prompts, captions, seed))
                print(key, flush=True)

if __name__ == '__main__': main()
