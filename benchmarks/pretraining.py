"""A study of pretraining at equal compute: what is predicted, weights of noise levels, shapes of UNet and latents.

    python benchmarks/pretraining.py --scratch SCRATCH                       # all that study.csv does not have yet
    python benchmarks/pretraining.py --scratch SCRATCH --variants v epsilon  # some; two processes may share SCRATCH
    python benchmarks/pretraining.py --scratch SCRATCH --film                # images while it learns, pretraining.png

One variant is trained for as many steps as fit into a budget of one thread's CPU time, is read by the judge, and learns
subjects by DreamBooth. Stopped and started again, it goes on. README.md next to this file says what is measured;
notebook 17 shows the table, nbs/logs/study.csv.
"""
import argparse
import math
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from dreambench import append, finished, generated, references_of, scores  # the script next to this one
from dreambooth_nb.core import image_grid
from dreambooth_nb.protocol import prompts
from dreambooth_nb.evaluation import GUIDANCE_SCALE
from dreambooth_nb.judge import load_judge
from dreambooth_nb.sampling import generate
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.autoencoder import psnr, train_autoencoder
from dreambooth_nb.denoiser import encode_dataset, score, train_diffusion
from dreambooth_nb.fitting import make_dataset
from dreambooth_nb.subject import Subject
from dreambooth_nb.toyland import CLASSES, SUBJECTS
from dreambooth_nb.training import train

OUTPUT = Path(__file__).resolve().parent.parent/'nbs'/'logs'/'study.csv'
AUTOENCODERS = {    # name -> what differs from the shipped shape; trained within the budget
    '16x16x4': {}, '16x16x8': dict(latent_channels=8), '8x8x16': dict(channels=(32, 48, 64, 96), latent_channels=16)}
PLAIN = dict(snr_gamma=None, snr_floor=0.)          # every noise level alike
CHOSEN = dict(snr_gamma=math.inf, snr_floor=.03)    # the objective that won, with which every other question is asked
VARIANTS = {        # name -> autoencoder ('shipped' or one of the above), what differs from the shipped UNet
    'v': ('shipped', PLAIN),
    'epsilon': ('shipped', PLAIN | dict(prediction_type='epsilon')),
    'v, min-SNR': ('shipped', dict(snr_gamma=5., snr_floor=0.)),
    'v, min-SNR, floor .1': ('shipped', dict(snr_gamma=5., snr_floor=.1)),
    'v, min-SNR, floor .3': ('shipped', dict(snr_gamma=5., snr_floor=.3)),
    'v, as epsilon, floor .1': ('shipped', dict(snr_gamma=math.inf, snr_floor=.1)),
    'v, as epsilon, floor .03': ('shipped', CHOSEN),
    'attention twice': ('shipped', CHOSEN | dict(attention_levels=2)),
    'narrow': ('shipped', CHOSEN | dict(channels=(48, 96))),
    'wide': ('shipped', CHOSEN | dict(channels=(96, 192)))} | {name: (name, CHOSEN) for name in AUTOENCODERS}
BATCH, GUIDANCE = 24, (2., 4.)
LEARNED = ('teal_dog', 'coral_boot')    # subjects of the DreamBooth runs


# ---- training within a budget

def steps_within(budget, take, folder, few=10, more=50):
    "Return how many steps fit, by what 40 more of them cost in CPU time, without the start."
    times = []
    for steps in (few, more):
        start = time.process_time()
        take(steps, folder/f'probe-{steps}')
        times.append(time.process_time() - start)
        shutil.rmtree(folder/f'probe-{steps}')
    return int(budget*(more - few)/(times[1] - times[0]))

def within(budget, take, folder):
    "Train for the budget, in one run or several; the number of steps is found once."
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder/'steps').exists(): (folder/'steps').write_text(str(steps_within(budget, take, folder)))
    steps = int((folder/'steps').read_text())
    return steps, take(steps, folder)

def autoencoder(name, data, budget, scratch):
    "Return the shipped autoencoder, or one of another shape, and the data set as its latents."
    if name == 'shipped': vae = load_pipeline().vae
    else:
        folder = scratch/'autoencoders'/name
        def take(steps, to): return train_autoencoder(data, to, steps, 8, **AUTOENCODERS[name])
        if not (folder/'vae').exists(): within(budget, take, folder)
        vae = AutoencoderKL.from_pretrained(folder/'vae').eval()
    latents = scratch/'latents'/f'{name}.pt'
    latents.parent.mkdir(exist_ok=True)
    encode_dataset(vae, np.load(data/'images.npy', mmap_mode='r'), latents)
    return vae, latents

def diffusion(vae, latents, data, settings, budget, folder):
    "Train a variant on latents that are encoded already."
    def take(steps, to):
        to.mkdir(parents=True, exist_ok=True)
        if not (to/'latents-0-of-1.pt').exists(): os.link(latents, to/'latents-0-of-1.pt')
        return train_diffusion(data, vae, to, steps, BATCH, **settings)
    steps, pipeline = within(budget, take, folder)
    pipeline.set_progress_bar_config(disable=True)
    return steps, pipeline


# ---- what it is worth

def learns(pipeline, judge):
    "Return DreamBooth's outcome: means over the subjects."
    found = []
    for name in LEARNED:
        subject, look = Subject.toyland(name), SUBJECTS[name]
        protocol = prompts(look.class_noun, look.pattern)
        tuned = train(subject, model=pipeline, seed=0, progress=False, prior_guidance_scale=GUIDANCE_SCALE).pipeline
        sets = generated(tuned, subject, protocol, 100_000, 16, 1)
        found.append(scores(judge, references_of(name), protocol, sets, 1))
    measures = 'subject_fidelity', 'prompt_fidelity', 'pres'
    return {f'dreambooth_{k}': round(sum(row[k] for row in found)/len(found), 4) for k in measures}

def folder_of(name, scratch):
    "Return where a variant is trained."
    return scratch/'variants'/name.replace(', ', '-').replace(' ', '-')

def one_variant(name, data, fresh, judge, args):
    "Train, read, fine-tune: one row."
    codec, settings = VARIANTS[name]
    vae, latents = autoencoder(codec, data, args.budget, args.scratch)
    folder = folder_of(name, args.scratch)
    steps, pipeline = diffusion(vae, latents, data, settings, args.budget, folder)
    by_scale = {scale: score(pipeline, judge, args.num_prompts, scale, progress=False) for scale in GUIDANCE}
    best = max(by_scale, key=lambda scale: sum(by_scale[scale].values()))
    sheet = generate(pipeline, [f'a photo of a {c}' for c in CLASSES], 1, guidance_scale=best, precision='auto',
                     progress=False)
    image_grid(sheet, 10).save(folder/'sheet.png')
    weights = sum(p.numel() for p in pipeline.unet.parameters())
    return dict(variant=name, autoencoder=codec, budget=args.budget, samples=steps*BATCH, weights=weights,
                psnr=round(psnr(vae, fresh), 2), guidance_scale=best,
                **{k: round(v, 4) for k, v in by_scale[best].items()}, **learns(pipeline, judge))

# ---- what it looks like while it learns

FILM_STEPS, FILM_LENGTH = (0, 100, 300, 1000, 1500), 2250   # the film ends before the learning rate falls
FILM_PROMPTS = ('a photo of a red dog on the beach', 'a photo of a blue teapot on a rug',
                'a photo of a yellow duck in the snow', 'a photo of a green robot in the city')

class FilmEnds(Exception): "The last image has been made."

def film(data, judge, folder, num_prompts, output):
    "Train the shipped shape, and keep what it generates at some steps: an image per prompt, and the judge's reading."
    rows = folder/'film.csv'
    def look(step, pipeline):
        if (str(step),) in finished(rows, 'step'): return
        images = generate(pipeline, FILM_PROMPTS, guidance_scale=4., seed=0, progress=False)
        column = np.concatenate([np.asarray(image) for image in images])
        Image.fromarray(column).save(folder/f'step-{step}.png')
        found = score(pipeline, judge, num_prompts, progress=False)
        append(rows, dict(step=step, **{name: round(value, 4) for name, value in found.items()}))
        print(time.strftime('%H:%M:%S'), step, found, flush=True)
    def watch(step, pipeline):
        if step in FILM_STEPS: look(step, pipeline)
        if step >= FILM_STEPS[-1]: raise FilmEnds
    vae, latents = autoencoder('shipped', data, None, folder.parent)
    if not (folder/'latents-0-of-1.pt').exists(): os.link(latents, folder/'latents-0-of-1.pt')
    with suppress(FilmEnds): train_diffusion(data, vae, folder, FILM_LENGTH, BATCH, watch=watch)
    look(12_000, load_pipeline())   # the shipped model: twice as many images in each of its steps
    columns = [np.asarray(Image.open(folder/f'step-{step}.png')) for step in (*FILM_STEPS, 12_000)]
    Image.fromarray(np.concatenate(columns, 1)).quantize(256).save(output/'pretraining.png', optimize=True)
    shutil.copy(rows, output/'pretraining.csv')

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--scratch', type=Path, required=True,
                        help='folder for the data set, latents, states and models')
    parser.add_argument('--output', type=Path, default=OUTPUT, help='the table')
    parser.add_argument('--variants', nargs='+', default=[*VARIANTS], choices=[*VARIANTS])
    parser.add_argument('--budget', type=float, default=720,
                        help='seconds of one thread, for each of the two trainings')
    parser.add_argument('--film', action='store_true',
                        help='images while the shipped shape learns, instead of the study')
    parser.add_argument('--num_images', type=int, default=30_000, help='of the training set')
    parser.add_argument('--num_prompts', type=int, default=200, help='fresh captions whose images are read')
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, judge = make_dataset(args.scratch/'data', args.num_images, seed=1), load_judge()
    if args.film:
        (folder := args.scratch/'film').mkdir(exist_ok=True)
        return film(data, judge, folder, args.num_prompts, args.output.parent)
    fresh = np.load(make_dataset(args.scratch/'fresh', 300, seed=9, workers=1)/'images.npy')
    for name in args.variants:
        if (name,) in finished(args.output, 'variant'): continue
        row = one_variant(name, data, fresh, judge, args)
        append(args.output, row)
        done = finished(args.output, 'variant')
        sheets = {n: folder_of(n, args.scratch)/'sheet.png' for n in VARIANTS if (n,) in done}
        sheets = {n: Image.open(path) for n, path in sheets.items() if path.exists()}
        image_grid([*sheets.values()], 1, [*sheets]).quantize(128).save(args.scratch/'study.png')
        print(time.strftime('%H:%M:%S'), *(f'{k}={v}' for k, v in row.items()), flush=True)

if __name__ == '__main__': main()
