"""What telling a model the sizes and crops of its training images is for: the same UNet, told and not told.

    python benchmarks/size_conditioning.py --scratch SCRATCH            # all of it; stopped, it goes on
    python benchmarks/size_conditioning.py --scratch SCRATCH --quick    # a few images and steps, to see that it runs

Toyland as a scraped collection of images: half of them are thumbnails of 12 to 24 pixels, half of them 3:2 and cut to
a square. The embedded model's UNet, with the embedding of six numbers that Stable Diffusion XL has, goes on learning
from them. Half of the samples of a step come with their image's own six numbers, half of them with six zeros, as a
caption is at times left out; so one network answers both questions: what it generates told a size and a crop, and what
it generates told nothing. Writes size-conditioning.csv, a row per image that was generated or rendered, and
size-conditioning.png. Lesson 19 shows both.
"""
import argparse
import csv
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image

from dreambooth_nb.autoencoder import train_autoencoder
from dreambooth_nb.core import to_images
from dreambooth_nb.denoiser import encode_dataset
from dreambooth_nb.diffusion import per_sample_loss
from dreambooth_nb.drawing import render
from dreambooth_nb.fitting import fit as train_steps
from dreambooth_nb.judge import load_judge, truth
from dreambooth_nb.objectives import objective_of
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.photos import crop_position, fit
from dreambooth_nb.pipeline import decode_pixels, tokenize
from dreambooth_nb.sampling import Sampling, Start, denoise, make_scheduler
from dreambooth_nb.toyland import CLASSES, PALETTE, caption, sample_scene

LOGS = Path(__file__).resolve().parent.parent/'nbs'/'logs'
SIDE = 64                       # of the square that the model learns
THUMBNAIL = 12, 24              # the sides of a thumbnail, at least and at most
NOTHING = (0,)*6                # instead of original height and width, crop's top and left, target height and width
SIZES = (SIDE, 16, 24, 40)      # original sizes to ask for; 40 is in no training image
LEFT = (0, 32)                  # crops of a 3:2 image, whose enlarged width is 96: the left end, the right end
COLUMNS = ('kind', 'told', 'asked', 'number', 'detail', 'class', 'colour', 'context', 'all_three', 'middle', 'is_cut')


# ---- a scraped collection of images

def photographed(scene, is_wide):
    "Render a scene as a photo: a square one, or one of 3:2 with as much again to the left and the right."
    if not is_wide: return render(scene)
    third = 2/3     # of an image of 96x96, of which a band of 64 rows is kept
    x, y = .5 + (scene.x - .5)*third, .5 + (scene.y - .5)*third
    return render(replace(scene, x=x, y=y, scale=scene.scale*third), 96).crop((0, 16, 96, 80))

def thumbnail(image, side):
    "Reduce an image, as for a list of results."
    return image.resize((round(side*image.width/image.height), side), Image.Resampling.BOX)

def example(seed):
    "Make a training image, its caption, and its six numbers."
    scene = sample_scene(rng := random.Random(seed))
    text, is_wide, is_small = caption(scene, rng), rng.random() < .5, rng.random() < .5
    image, place = photographed(scene, is_wide), (rng.random(), rng.random())
    if is_small: image = thumbnail(image, rng.randint(*THUMBNAIL))
    _, left, top = crop_position(image.size, SIDE, place)
    return fit(image, SIDE, place), text, (image.height, image.width, top, left, SIDE, SIDE)

def collection(folder, n):
    "Make the training set, once."
    if (folder/'captions.txt').exists(): return
    folder.mkdir(parents=True, exist_ok=True)
    images, captions, views = zip(*map(example, range(7*10**8, 7*10**8 + n)))
    np.save(folder/'images.npy', np.stack([np.asarray(image) for image in images]))
    np.save(folder/'views.npy', np.array(views, dtype=np.float32))
    (folder/'captions.txt').write_text('\n'.join(captions), encoding='utf-8')


# ---- a UNet that is told

@torch.no_grad()
def encode(pipeline, prompts):
    "Return one vector per token, and one per prompt."
    output = pipeline.text_encoder(tokenize(pipeline.tokenizer, prompts))
    return output.last_hidden_state, output.pooler_output

def with_numbers(unet, width=32):
    "Give a UNet Stable Diffusion XL's embedding of six numbers and of the pooled text; it begins as the same model."
    config = {k: v for k, v in unet.config.items() if not k.startswith('_')}
    told = UNet2DConditionModel(**config | dict(
        addition_embed_type='text_time', addition_time_embed_dim=width,
        projection_class_embeddings_input_dim=6*width + config['cross_attention_dim']))
    told.load_state_dict(told.state_dict() | unet.state_dict())
    for p in told.add_embedding.linear_2.parameters(): torch.nn.init.zeros_(p)
    return told.requires_grad_(True)

def ask(unet, latents, timesteps, states, pooled, views):
    with torch.autocast('cpu', torch.bfloat16):
        return unet(latents, timesteps, states, added_cond_kwargs=dict(text_embeds=pooled, time_ids=views)).sample

def learn(pipeline, data, steps, folder, seed, batch_size):
    "Train the UNet on the collection; one caption in ten is empty, and half of the views are nothing."
    captions = (data/'captions.txt').read_text(encoding='utf-8').split('\n') + ['']
    mean, std = encode_dataset(pipeline.vae, np.load(data/'images.npy'), data/'latents.pt')
    views, objective = torch.from_numpy(np.load(data/'views.npy')), objective_of(pipeline, snr_gamma=math.inf)
    torch.manual_seed(seed)
    unet = with_numbers(pipeline.unet)
    def loss_at(step, rank):
        g = torch.Generator().manual_seed(seed*1_000_003 + step)
        rows = torch.randint(len(mean), (batch_size,), generator=g)
        latents = mean[rows].float()
        latents = latents + std[rows].float()*torch.randn(latents.shape, generator=g)
        noise, timesteps = torch.randn(latents.shape, generator=g), torch.randint(1000, (batch_size,), generator=g)
        texts = rows.masked_fill(torch.rand(batch_size, generator=g) < .1, len(mean))
        told = views[rows]*(torch.rand(batch_size, 1, generator=g) < .5)
        noisy_latents = objective.add_noise(latents, noise, timesteps)
        model_pred = ask(unet, noisy_latents, timesteps, *encode(pipeline, [captions[i] for i in texts]), told)
        loss = per_sample_loss(model_pred.float(), objective.target(latents, noise, timesteps))
        return dict(loss=(loss*objective.weights(timesteps).clamp(min=.03)).mean())
    return train_steps(unet, loss_at, steps, folder, 8e-4, ema_decay=.95, every=10, save_every=20).eval()


# ---- what is generated, and what is measured

@torch.inference_mode()
def generated(pipeline, unet, prompts, view, steps=12, at_once=20):
    "Generate an image of each prompt; image i starts from the noise of seed i."
    images = []
    noise = torch.cat([torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(i))
                       for i in range(len(prompts))])
    def told(texts):
        states, pooled = encode(pipeline, texts)
        return dict(states=states, pooled=pooled, views=torch.tensor([view]*len(texts)).float())
    for first in range(0, len(prompts), at_once):
        texts = prompts[first:first + at_once]
        start = Start(noise[first:first + at_once], told(texts), told(['']*len(texts)))
        scheduler = make_scheduler(pipeline, None, steps)
        latents = denoise(lambda x, t, c: ask(unet, x, t, **c), scheduler, start, Sampling(guidance_scale=4.))
        images += to_images(decode_pixels(pipeline.vae, latents.float()))
    return images

def grey(image): return np.asarray(image.convert('L'), dtype=float)

def detail(image):
    "Say how much an image loses if it is reduced to 16 pixels and enlarged again: root mean square, grey levels."
    return np.sqrt(((grey(image) - grey(fit(thumbnail(image, 16), SIDE)))**2).mean())

def where(image, colour):
    "Find the pixels of a colour: the middle of their columns, and whether they reach the left or the right end."
    apart = np.abs(np.asarray(image, dtype=int) - PALETTE[colour]).max(2)
    share = (apart < 70).mean(0)
    if not share.any(): return math.nan, 0
    return (share*np.arange(SIDE)).sum()/share.sum(), int((share[[0, 1, -2, -1]] > .06).any())

def rows_of(judge, images, scenes, **facts):
    "Measure images: a row for each."
    for number, (image, seen, wanted) in enumerate(zip(images, judge.read(images), map(truth, scenes))):
        right = {q: int(seen[q] == wanted[q]) for q in ('class', 'colour', 'context')}
        middle, is_cut = where(image, wanted['colour']) if wanted['colour'] else (math.nan, 0)
        yield facts | dict(number=number, detail=f'{detail(image):.2f}', **right, all_three=int(all(right.values())),
                           middle=f'{middle:.1f}', is_cut=is_cut)

def fresh(n):
    "Make scenes that no training image shows."
    rng = random.Random('fresh')
    return [sample_scene(rng, CLASSES[i % len(CLASSES)]) for i in range(n)]

def red_in_snow(n):
    "Make scenes of a plain red thing in the snow: red is nowhere else in them."
    rng = random.Random('red')
    scenes = [sample_scene(rng, CLASSES[i % len(CLASSES)], 'snow') for i in range(n)]
    red = dict(colour=PALETTE['red'], colour_name='red', pattern='plain')
    return [replace(s, accessory='none', look=replace(s.look, **red)) for s in scenes]

def questions(n):
    "List what is asked: kind, what is told, its name in the table, scenes, the six numbers."
    scenes, red = fresh(n), red_in_snow(2*n//3)
    yield 'size', 'nothing', '', scenes, NOTHING
    for side in SIZES:
        yield 'size', 'its size', side, scenes if side in (16, SIDE) else scenes[:n//2], (side, side, 0, 0, SIDE, SIDE)
    yield 'crop', 'nothing', '', red, NOTHING
    yield 'crop', 'its crop', 'whole', red, (SIDE, SIDE, 0, 0, SIDE, SIDE)
    for left in LEFT: yield 'crop', 'its crop', left, red, (SIDE, 96, 0, left, SIDE, SIDE)

@torch.inference_mode()
def through(vae, images):
    "Encode and decode images: the best that any UNet could do with this autoencoder."
    pixels = torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1).float()/127.5 - 1 for i in images])
    parts = [vae.decode(vae.encode(part).latent_dist.mode()).sample.clamp(-1, 1) for part in pixels.split(10)]
    return to_images(torch.cat(parts))

def rendered_rows(vae, judge, scenes):
    "Measure rendered images of each original size."
    for side in SIZES:
        images = [photographed(scene, False) for scene in scenes]
        if side < SIDE: images = [fit(thumbnail(image, side), SIDE) for image in images]
        yield from rows_of(judge, through(vae, images), scenes, kind='size', told='rendered', asked=side)

def answers(pipeline, unet, judge, n, folder, shown=8):
    "Generate what is asked, question by question; what is in the folder is not made again."
    for number, (kind, told, asked, scenes, view) in enumerate(questions(n)):
        table, sheet = folder/f'{number}.csv', folder/f'{number}.png'
        if not sheet.exists():
            images = generated(pipeline, unet, [*map(caption, scenes)], view)
            write(table, rows_of(judge, images, scenes, kind=kind, told=told, asked=asked))
            Image.fromarray(np.concatenate([np.asarray(image) for image in images[:shown]], 1)).save(sheet)
            print(time.strftime('%H:%M:%S'), kind, told, asked, f'{time.process_time():.0f} s of CPU', flush=True)
        with open(table, encoding='utf-8') as f: yield [*csv.DictReader(f)], np.asarray(Image.open(sheet))

def write(path, rows):
    with open(path, 'w', newline='', encoding='utf-8') as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def prepared(args):
    "Make the collection, and the embedded model with a decoder that has learned to leave thumbnails blurred."
    data, pipeline = args.scratch/'data', load_pipeline(device='cpu')
    collection(data, args.num_images)
    folder = args.scratch/'decoder'
    if not (folder/'vae').exists():
        train_autoencoder(data, folder, args.decoder_steps, learning_rate=5e-4, decoder_of=pipeline.vae)
    vae = AutoencoderKL.from_pretrained(folder/'vae').eval().requires_grad_(False)
    pipeline.register_modules(vae=vae)
    return data, pipeline

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scratch', type=Path, required=True, help='folder for the training set and the trainings')
    parser.add_argument('--output', type=Path, default=LOGS, help='folder for the table and the images')
    parser.add_argument('--num_images', type=int, default=8000, help='of the training set')
    parser.add_argument('--decoder_steps', type=int, default=1200, help='of 4 images')
    parser.add_argument('--steps', type=int, default=400, help='of 24 images')
    parser.add_argument('--seed', type=int, default=0, help='of the training')
    parser.add_argument('--num_prompts', type=int, default=48, help='images per question')
    parser.add_argument('--quick', action='store_true', help='a few images and steps')
    args = parser.parse_args()
    if args.quick: vars(args).update(num_images=48, decoder_steps=2, steps=2, num_prompts=16)
    torch.set_num_threads(1)
    data, pipeline = prepared(args)
    (folder := args.scratch/f'told-{args.seed}').mkdir(parents=True, exist_ok=True)
    start = time.process_time()
    unet = learn(pipeline, data, args.steps, folder, args.seed, 24)
    print(time.strftime('%H:%M:%S'), f'trained: {time.process_time() - start:.0f} s of CPU', flush=True)
    judge = load_judge()
    tables, sheets = zip(*answers(pipeline, unet, judge, args.num_prompts, folder))
    rendered = rendered_rows(pipeline.vae, judge, fresh(args.num_prompts))
    args.output.mkdir(parents=True, exist_ok=True)
    write(args.output/'size-conditioning.csv', [*rendered, *(row for table in tables for row in table)])
    sheet = Image.fromarray(np.concatenate(sheets)).quantize(256, kmeans=2)
    sheet.save(args.output/'size-conditioning.png', optimize=True)


if __name__ == '__main__': main()
