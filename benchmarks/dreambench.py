"""The DreamBench protocol in Toyland: every bundled subject, six ways of training, several seeds.

    python benchmarks/dreambench.py --scratch SCRATCH                     # all runs that nbs/logs/dreambench.csv does not have yet
    python benchmarks/dreambench.py --scratch SCRATCH --part 0/2 &        # the same in two processes, which share SCRATCH
    python benchmarks/dreambench.py --scratch SCRATCH --part 1/2 &
    python benchmarks/dreambench.py --scratch SCRATCH --guidance          # the guidance sweep, nbs/logs/dreambench-guidance.csv
    python benchmarks/dreambench.py --scratch SCRATCH --settings          # one setting of `train` at a time, nbs/logs/dreambench-settings.csv
    python benchmarks/dreambench.py --scratch SCRATCH --unseen            # what pretraining never showed, nbs/logs/dreambench-unseen.csv and its picture

One row per run, written when the run is done; started again, it goes on where it stopped. README.md beside this file says what is measured.
"""
import argparse
import csv
import random
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from dreambooth_nb.core import image_grid
from dreambooth_nb.dreambench import nearer, twins
from dreambooth_nb.protocol import as_asked, prompts
from dreambooth_nb.evaluation import GUIDANCE_SCALE, diversity, prompt_fidelity, subject_fidelity
from dreambooth_nb.judge import load_judge
from dreambooth_nb.sampling import generate
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.saving import save_pipeline
from dreambooth_nb.prior import class_images
from dreambooth_nb.subject import Subject
from dreambooth_nb.drawing import render
from dreambooth_nb.toyland import SUBJECTS, place, sample_look, subject_scenes
from dreambooth_nb.training import train

LOGS = Path(__file__).resolve().parent.parent/'nbs'/'logs'
PICTURES = 5    # of a bundled subject
CASES = {       # case -> what differs from `train`'s defaults: UNet and text encoder, prior preservation, 5 pictures, 400 steps
    'drawn': None, 'before': None,  # no training: scenes drawn by code as they were asked for; the model as it ships
    'prior': {}, 'no_prior': dict(with_prior_preservation=False), 'unet': dict(train_text_encoder=False), 'lora': dict(trainable='lora'),
    '1_picture': dict(pictures=1), '3_pictures': dict(pictures=3)}
SWEPT = {       # setting of `train` -> the values beside its default; the default's own runs are case 'prior'
    'learning_rate': (5e-5, 2e-4, 4e-4), 'text_encoder_lr': (2.5e-5, 4e-4), 'max_train_steps': (200, 800), 'prior_loss_weight': (.3, 3.),
    'num_class_images': (10, 30, 200)}
LORA_RATES = (5e-4, 1e-3, 2e-3)
SETTINGS = {f'{name}={value:g}': {name: value} for name, values in SWEPT.items() for value in values} | {
    f'lora_learning_rate={rate:g}': dict(trainable='lora', learning_rate=rate) for rate in LORA_RATES}
SCALES = (1, 1.5, 2, 3, 4, 5, 7.5, 10, 14)
RAW = ('subject_values', 'prompted_values', 'asked_values', 'pres_values', 'div_values', 'class_div_values', 'prompt_div_values')


# ---- pictures

def reference_pictures(name):
    "Pictures of the subject that no training has seen."
    return [render(scene) for scene in subject_scenes(name, 25)[5:]]

def drawn_by_code(name, protocol, rng, count, each):
    "What a perfect model would draw: of the subject, of the class, of each prompt."
    look = SUBJECTS[name]
    return ([render(place(look, rng)) for _ in range(count)], [render(place(sample_look(rng, look.class_noun), rng, accessory=None)) for _ in range(count)],
            [as_asked(look, p, rng) for p in protocol for _ in range(each)])

def drawn_by_model(pipeline, subject, protocol, seed, count, each, guidance_scale=GUIDANCE_SCALE):
    "The same three sets, generated."
    how = dict(seed=seed, guidance_scale=guidance_scale, precision='auto', progress=False)
    return (generate(pipeline, subject.instance_prompt, count, **how), generate(pipeline, subject.class_prompt, count, **how),
            generate(pipeline, [subject.prompt(p.template) for p in protocol], each, **how))

def scores(judge, references, protocol, sets, each):
    "Means, and what they are means of."
    of_subject, of_class, placed = sets
    asked = [p.asked for p in protocol for _ in range(each)]
    right, likeness = prompt_fidelity(judge, placed, asked), subject_fidelity(judge, placed, references)
    pairs = torch.stack([diversity(judge, placed[i:i + each])[0] for i in range(0, len(placed), each)])
    raw = dict(zip(RAW, (subject_fidelity(judge, of_subject, references), likeness, right, subject_fidelity(judge, of_class, references),
                         diversity(judge, of_subject), diversity(judge, of_class), pairs)))
    kinds = [p.kind for p in protocol for _ in range(each)]
    share = {k: right[[kind == k for kind in kinds]].mean().item() if k in kinds else '' for k in ('context', 'accessory', 'property')}
    means = dict(subject_fidelity=torch.cat([raw['subject_values'], likeness]), prompt_fidelity=right, pres=raw['pres_values'], div=raw['div_values'], class_diversity=raw['class_div_values'])
    digits = lambda v: v if v == '' else round(v, 4)
    return {k: digits(v.mean().item()) for k, v in means.items()} | {k: digits(v) for k, v in share.items()} | {k: ' '.join(f'{x:.3g}' for x in v.tolist()) for k, v in raw.items()}

def strip(path, subject, sets, each):
    "A row of pictures for a person's eye."
    path.parent.mkdir(parents=True, exist_ok=True)
    image_grid(subject.images + sets[0][:4] + sets[1][:4] + sets[2][::each], 13).quantize(128).save(path)


# ---- runs

def trained(base, subject, case, seed, scratch):
    "Train a case; the class images of a subject and seed are drawn once and shared."
    settings = dict((CASES | SETTINGS)[case])
    chosen = [subject.images[(seed + i) % PICTURES] for i in range(settings.pop('pictures', PICTURES))]
    folder = scratch/'class_images'/f'{subject.class_noun}-{seed}'
    prior = class_images(base, subject.class_prompt, settings.pop('num_class_images', 100), folder, seed=1000*seed, guidance_scale=GUIDANCE_SCALE, progress=False)
    if settings.get('with_prior_preservation', True): settings['prior'] = prior
    return train(Subject(chosen, subject.class_noun, name=subject.name), model=base, seed=seed, progress=False, **settings).pipeline

def one_run(base, judge, name, case, seed, count, each, scratch):
    "One row."
    subject, look = Subject.toyland(name), SUBJECTS[name]
    protocol, references, started = prompts(look.class_noun, look.pattern), reference_pictures(name), time.process_time()
    pipeline = base if case in ('drawn', 'before') else trained(base, subject, case, seed, scratch)
    training = time.process_time() - started
    sets = (drawn_by_code(name, protocol, random.Random(f'{name} {seed}'), count, each) if case == 'drawn' else
            drawn_by_model(pipeline, subject, protocol, 100_000 + 1000*seed, count, each))
    row = dict(subject=name, case=case, seed=seed) | scores(judge, references, protocol, sets, each)
    strip(scratch/'strips'/f'{seed}-{case}-{name}.png', subject, sets, each)
    if (case, seed) == ('prior', 0): save_pipeline(pipeline, scratch/'models'/name)
    return row | dict(cpu_training=round(training, 1), cpu_all=round(time.process_time() - started, 1))

def default_model(base, subject, seed, scratch):
    "What case 'prior' left behind, or trained now."
    folder = scratch/'models'/subject.name
    return load_pipeline(folder) if folder.exists() else trained(base, subject, 'prior', seed, scratch)

def unseen_rows(base, judge, name, seed, count, scratch):
    "One row per attribute that no pretraining picture has, and per set of pictures; and a strip of them."
    subject, look, scenes = Subject.toyland(name), SUBJECTS[name], subject_scenes(name, 45)[5:]
    how = dict(seed=100_000 + 1000*seed, guidance_scale=GUIDANCE_SCALE, precision='auto', progress=False)
    before, after = (generate(p, subject.instance_prompt, count, **how) for p in (base, default_model(base, subject, seed, scratch)))
    drawn = lambda of, scenes=scenes[:20]: [render(replace(s, look=of)) for s in scenes]
    image_grid(drawn(look)[:3] + before[:3] + after[:5], 11).save(scratch/'strips'/f'unseen-{name}.png')
    for attribute, twin in twins(look).items():
        references = drawn(look, scenes[20:]), drawn(twin, scenes[20:])
        for kind, images in dict(real=drawn(look), twin=drawn(twin), before=before, after=after).items():
            yield dict(subject=name, case=attribute, pictures=kind, nearer_values=' '.join(f'{v:.3g}' for v in nearer(judge, images, *references).tolist()))

def sweep_rows(base, judge, name, seed, count, each, scratch, done):
    "One row per guidance scale, of the model that case 'prior' left behind."
    subject, look = Subject.toyland(name), SUBJECTS[name]
    protocol, references = prompts(look.class_noun, look.pattern), reference_pictures(name)
    pipeline = default_model(base, subject, seed, scratch)
    for scale in SCALES:
        if (name, str(scale), str(seed)) in done: continue
        sets = drawn_by_model(pipeline, subject, protocol, 200_000 + 1000*seed, count, each, scale)
        strip(scratch/'strips'/f'guidance-{name}-{scale}.png', subject, sets, each)
        yield dict(subject=name, guidance_scale=scale, seed=seed) | scores(judge, references, protocol, sets, each)


# ---- the table

def append(path, row):
    "Add a row in one write, so that two processes never mix theirs."
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(path, 'x', encoding='utf-8') as file: csv.writer(file, lineterminator='\n').writerow(row)
    except FileExistsError: pass
    with open(path, 'a', encoding='utf-8') as file: csv.writer(file, lineterminator='\n').writerow(row.values())

def finished(path, *keys):
    "What the table has."
    if not path.exists(): return set()
    with open(path, encoding='utf-8') as file: return {tuple(row[k] for k in keys) for row in csv.DictReader(file)}

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--scratch', type=Path, required=True, help='folder for class images, strips of pictures and the models of the sweep')
    parser.add_argument('--output', type=Path, help='the table; nbs/logs/dreambench.csv, dreambench-guidance.csv, dreambench-settings.csv or dreambench-unseen.csv')
    parser.add_argument('--guidance', action='store_true', help='the guidance sweep instead of the runs')
    parser.add_argument('--settings', action='store_true', help='settings of training, one at a time, instead of the runs')
    parser.add_argument('--unseen', action='store_true', help='subjects against twins without what pretraining never showed, instead of the runs')
    parser.add_argument('--seeds', type=int, nargs='+', help='0 1 2; for the sweeps 0')
    parser.add_argument('--subjects', nargs='+', default=[*SUBJECTS], choices=[*SUBJECTS])
    parser.add_argument('--cases', nargs='+', choices=[*CASES, *SETTINGS], help='all, or with --settings all of its settings')
    parser.add_argument('--part', default='0/1', help='i/n: every n-th subject, from the i-th on')
    parser.add_argument('--num_images', type=int, default=16, help='of the subject, and of the class')
    parser.add_argument('--per_prompt', type=int, default=2, help='of each of the 25 prompts')
    args = parser.parse_args()
    part, parts = map(int, args.part.split('/'))
    subjects, base, judge = args.subjects[part::parts], load_pipeline(), load_judge()
    if args.guidance:
        output = args.output or LOGS/'dreambench-guidance.csv'
        for seed in args.seeds or [0]:
            for name in subjects:
                for row in sweep_rows(base, judge, name, seed, args.num_images, args.per_prompt, args.scratch, finished(output, 'subject', 'guidance_scale', 'seed')):
                    append(output, row)
                    print(time.strftime('%H:%M:%S'), name, row['guidance_scale'], row['subject_fidelity'], row['prompt_fidelity'], flush=True)
        return
    if args.unseen:
        output = args.output or LOGS/'dreambench-unseen.csv'
        for name in subjects:
            if (name,) in finished(output, 'subject'): continue
            for row in list(unseen_rows(base, judge, name, 0, args.num_images, args.scratch)): append(output, row)
        image_grid([Image.open(args.scratch/'strips'/f'unseen-{name}.png') for name in subjects], 1).quantize(128).save(output.with_suffix('.png'))
        return
    output = args.output or LOGS/('dreambench-settings.csv' if args.settings else 'dreambench.csv')
    for seed in args.seeds or ([0] if args.settings else [0, 1, 2]):
        for case in args.cases or (SETTINGS if args.settings else CASES):
            for name in subjects:
                if (name, case, str(seed)) in finished(output, 'subject', 'case', 'seed'): continue
                row = one_run(base, judge, name, case, seed, args.num_images, args.per_prompt, args.scratch)
                append(output, row)
                print(time.strftime('%H:%M:%S'), seed, case, name, row['subject_fidelity'], row['prompt_fidelity'], row['pres'], row['cpu_training'], row['cpu_all'], flush=True)

if __name__ == '__main__': main()
