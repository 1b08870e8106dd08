"""Make the small images that tools/diagrams.py places in its diagrams: `python tools/tiles.py` (about two minutes).

They are real: photos of the bundled teal dog, images that the embedded model generates, and what it generates after
200 steps of training. They are kept in tools/tiles, since another machine may round otherwise; few colours keep the
diagrams small.
"""
from pathlib import Path

import torch
from PIL import Image

from dreambooth_nb import Subject, generate, load_pipeline, train
from dreambooth_nb.core import generator_for
from dreambooth_nb.diffusion import training_scheduler
from dreambooth_nb.pipeline import decode_latents, encode_images, encode_prompt

TILES = Path(__file__).resolve().parent/'tiles'
LEVELS = (0, 200, 400, 600, 800, 999)


def keep(name, image, colours=17):
    "Save an image with few colours."
    TILES.mkdir(exist_ok=True)
    image.convert('RGB').quantize(colours, kmeans=8, dither=Image.Dither.NONE).save(TILES/f'{name}.png', optimize=True)


def as_colours(latents):
    "Show the first three channels of latents as red, green and blue."
    return Image.fromarray(((latents[0, :3]/5 + .5).clamp(0, 1)*255).byte().permute(1, 2, 0).numpy())


@torch.no_grad()
def while_denoising(pipeline, prompt, steps=25, scale=4.):
    "Yield the latents before each step, and at the end."
    latents = torch.randn(1, 4, 16, 16, generator=generator_for(1, 'diagram'))
    states = encode_prompt(pipeline, ['', prompt])
    pipeline.scheduler.set_timesteps(steps)
    for t in pipeline.scheduler.timesteps:
        yield latents
        uncond, text = pipeline.unet(latents.expand(2, -1, -1, -1), t, states).sample.chunk(2)
        latents = pipeline.scheduler.step(uncond + scale*(text - uncond), t, latents).prev_sample
    yield latents


def main():
    pipeline, subject = load_pipeline(device='cpu'), Subject.toyland('teal_dog')
    how = dict(num_images=8, seed=0, guidance_scale=4., num_inference_steps=25, progress=False)
    classes = generate(pipeline, 'a photo of a dog', **how)
    for i, (photo, other) in enumerate(zip([subject.images[k] for k in (0, 1, 4)], [classes[k] for k in (1, 3, 6)])):
        keep(f'photo-{i}', photo)
        keep(f'class-{i}', other)
    keep('hat', generate(pipeline, 'a photo of a dog wearing a red hat on the beach', **how | dict(seed=12))[0])
    path = list(while_denoising(pipeline, 'a photo of a red dog on the beach'))
    for k in (0, 18, 25): keep(f'latents-{k}', as_colours(path[k]), 64)
    keep('image', decode_latents(pipeline.vae, path[-1])[0])
    latents = encode_images(pipeline.vae, subject.images[4:5])
    noise = torch.randn(latents.shape, generator=generator_for(0, 'diagram'))
    for t in LEVELS:
        noisy = training_scheduler(pipeline).add_noise(latents, noise, torch.tensor([t])) if t else latents
        keep(f'noisy-{t}', decode_latents(pipeline.vae, noisy)[0])
        keep(f'noisy-latents-{t}', as_colours(noisy), 64)
    trained = train(subject, max_train_steps=200, seed=0, progress=False, watch=False).pipeline
    for name, prompt, chosen in (('sks', 'a photo of sks dog in the snow', (2, 4, 5)),
                                 ('dog', 'a photo of a dog', (1, 4, 7))):
        images = generate(trained, prompt, **how)
        for i, k in enumerate(chosen): keep(f'{name}-{i}', images[k])


if __name__ == '__main__': main()
