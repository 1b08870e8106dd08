"""What each choice of trained weights learns: likeness, prompts, the class, memory and seconds.

    python benchmarks/freezing.py --scratch SCRATCH              # all runs that nbs/logs/freezing.csv does not have yet
    python benchmarks/freezing.py --scratch SCRATCH --sheet      # the images of one subject, nbs/images/freezing.png

One row per run, written when the run is done; started again, it goes on where it stopped. README.md next to this file
says what is measured.
"""
import argparse
import csv
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dreambooth_nb.core import image_grid, to_tensor
from dreambooth_nb.drawing import render
from dreambooth_nb.evaluation import GUIDANCE_SCALE, measure
from dreambooth_nb.judge import load_judge
from dreambooth_nb.memory import forecast_memory
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.prior_images import class_images
from dreambooth_nb.sampling import generate
from dreambooth_nb.subject import Subject
from dreambooth_nb.toyland import SUBJECTS, subject_scenes
from dreambooth_nb.training import train

NBS = Path(__file__).resolve().parent.parent/'nbs'
STEPS = 200
CASES = {   # what differs from `train`'s defaults; the learning rates are its own, except where one is given
    'before': None,     # the model as it ships
    'unet+text_encoder': dict(trainable='unet+text_encoder'),
    'unet': dict(trainable='unet', train_text_encoder=False),
    'cross_attention': dict(trainable='cross_attention'),
    'token_embedding': dict(trainable='token_embedding'),
    'lora': dict(trainable='lora'),
    'lora, rank 1': dict(trainable='lora', rank=1),
    'lora, rank 16': dict(trainable='lora', rank=16)}
RATES = {   # a learning rate other than the default
    'cross_attention, 4e-4': dict(trainable='cross_attention', learning_rate=4e-4),
    'unet, 4e-4': dict(trainable='unet', train_text_encoder=False, learning_rate=4e-4),
    'token_embedding, 3e-3': dict(trainable='token_embedding', learning_rate=3e-3),
    'token_embedding, 3e-2': dict(trainable='token_embedding', learning_rate=3e-2)}
TITLES = {  # of the sheet's rows
    'before': 'before training', 'unet+text_encoder': 'UNet and text encoder', 'unet': 'UNet',
    'cross_attention': 'cross-attention', 'token_embedding': 'token embedding',
    'lora': 'LoRA, rank 4', 'lora, rank 16': 'LoRA, rank 16'}
SHOWN = {'sks dog': '{}', 'on the beach': '{} on the beach', 'a dog': 'a {}'}


# ---- runs

def trained(base, subject, case, seed, scratch):
    "Train a case; the class images of a class and seed are generated once and shared."
    folder = scratch/'class_images'/f'{subject.class_noun}-{seed}'
    prior = class_images(base, subject.class_prompt, class_data_dir=folder, seed=1000*seed,
                         guidance_scale=GUIDANCE_SCALE, progress=False)
    settings = (CASES | RATES)[case]
    started = time.process_time()
    run = train(subject, model=base, prior=prior, seed=seed, max_train_steps=STEPS, progress=False, **settings)
    return run, time.process_time() - started

def grey_levels(first, second):
    "Return how far images are apart, pair by pair: the mean difference of a value from 0 to 255."
    return (to_tensor(first) - to_tensor(second)).abs().mean().item()*127.5

def keep(pipeline, subject, case, folder):
    "Save two images of each prompt of the sheet."
    folder.mkdir(parents=True, exist_ok=True)
    phrase = f'{subject.identifier} {subject.class_noun}'
    texts = [f'a photo of {phrase}', f'a photo of {phrase} on the beach', f'a photo of a {subject.class_noun}']
    settings = dict(num_images=2, seed=0, guidance_scale=GUIDANCE_SCALE, progress=False)   # the same noise for each
    images = [image for text in texts for image in generate(pipeline, text, **settings)]
    image_grid(images, 6).save(folder/f'{case}.png')

def one_run(base, judge, name, case, seed, scratch):
    "Return one row."
    subject = Subject.toyland(name)
    references = [render(scene) for scene in subject_scenes(name, 25)[5:]]
    run, seconds = (None, 0) if case == 'before' else trained(base, subject, case, seed, scratch)
    pipeline = run.pipeline if run else base
    found = measure(pipeline, subject, judge, references, seed=100_000 + 1000*seed, progress=False,
                    guidance_scale=GUIDANCE_SCALE)
    keep(pipeline, subject, case, scratch/'images'/f'{name}-{seed}')
    row = dict(subject=name, case=case, seed=seed)
    scores = ('subject_fidelity', 'prompt_fidelity', 'pres', 'div', 'class_diversity')
    row |= {measure_: round(found.scores[measure_], 4) for measure_ in scores}
    row['grey_levels'] = round(grey_levels(found.subject, found.class_), 2)
    if run is None: return row | dict(learning_rate='', parameters=0, peak_mb='', seconds='')
    step = dict(trainable=run.config.trainable, rank=run.config.rank, train_batch_size=run.config.train_batch_size)
    memory = forecast_memory('toyland', device='cpu', with_prior_preservation=True, **step)
    return row | dict(learning_rate=run.config.learning_rate, parameters=memory.parameters,
                      peak_mb=round(memory.peak/1e6, 1), seconds=round(seconds, 1))

def measured(base, judge, name, case, seed, scratch):
    "Return one row, with the processor's seconds."
    started = time.process_time()
    row = one_run(base, judge, name, case, seed, scratch)
    return row | dict(cpu_all=round(time.process_time() - started, 1))


# ---- the sheet

def _read(path):
    "Return the rows of a table."
    if not path.exists(): return []
    with open(path, encoding='utf-8') as file: return list(csv.DictReader(file))

def _text(lines, width, height, size=14):
    "Write lines on white, in the middle of a tile's height."
    tile, font = Image.new('RGB', (width, height), 'white'), ImageFont.load_default(size)
    step = size + 4
    for i, line in enumerate(lines):
        y = (height - step*len(lines))//2 + step*i
        ImageDraw.Draw(tile).text((4, y), line, (30, 30, 30), font)
    return tile

def _numbers(row):
    "Write what a row of images is worth."
    lines = [f"likeness {float(row['subject_fidelity']):.2f}", f"prompt {float(row['prompt_fidelity']):.2f}",
             f"PRES {float(row['pres']):.2f}"]
    if row['peak_mb']: lines += [f"{float(row['peak_mb']):.0f} MB", f"{float(row['seconds']):.0f} s"]
    return lines

def sheet(rows, scratch, name, seed, cases=TITLES):
    "Put the images of a subject below each other, one row per choice of weights, with its numbers."
    rows = {row['case']: row for row in rows if (row['subject'], row['seed']) == (name, str(seed))}
    tiles, labels = [], []
    for case in cases:
        strip = Image.open(scratch/'images'/f'{name}-{seed}'/f'{case}.png')
        images = [strip.crop((4 + 68*i, 4, 68 + 68*i, 68)).resize((128, 128), Image.NEAREST) for i in range(6)]
        count = int(rows[case]['parameters'])
        tiles += [*images, _text(_numbers(rows[case]), 128, 128)]
        labels.append(f'{TITLES.get(case, case)}' + (f'\n{count:,} weights' if count else ''))
    noun = name.split('_')[1]
    headings = [f'sks {noun}', '', f'sks {noun} on the beach', '', f'a {noun}', '', '']
    return image_grid(tiles, 7, labels, 1, headings, 14)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--scratch', type=Path, required=True, help='folder for class images and the images of runs')
    parser.add_argument('--output', type=Path, default=NBS/'logs'/'freezing.csv', help='the table')
    parser.add_argument('--subjects', nargs='+', default=['teal_dog', 'magenta_cat'], choices=[*SUBJECTS])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--cases', nargs='+', default=[*CASES], choices=[*CASES, *RATES])
    parser.add_argument('--sheet', action='store_true', help='put the images together instead of training')
    args = parser.parse_args()
    if args.sheet:
        image = sheet(_read(args.output), args.scratch, args.subjects[0], args.seeds[0])
        image = image.point(lambda value: min(255, round(value/4)*4))   # a smaller file, and nobody sees it
        return image.save(NBS/'images'/'freezing.png', optimize=True)
    base, judge = load_pipeline(), load_judge()
    for seed in args.seeds:
        for name in args.subjects:
            for case in args.cases:
                done = {(row['subject'], row['case'], row['seed']) for row in _read(args.output)}
                if (name, case, str(seed)) in done: continue
                row = measured(base, judge, name, case, seed, args.scratch)
                new = not args.output.exists()
                with open(args.output, 'a', encoding='utf-8') as file:
                    writer = csv.writer(file, lineterminator='\n')
                    if new: writer.writerow(row)
                    writer.writerow(row.values())
                print(time.strftime('%H:%M:%S'), *row.values(), flush=True)

if __name__ == '__main__': main()
