"""What the guidance scale does, in numbers: whether images show what was asked, how much they differ, what saturates.

    python benchmarks/scales.py --output nbs/logs/scales.csv

Twenty-four prompts of Toyland, four seeds each, the same for every scale, on the embedded model. The judge reads class,
colour and place. Three ways: guided throughout, rescaled, and guided on the middle of the way only. Notebook 04 and
its room 04b show the results.
"""
import argparse
import csv
import random

import numpy as np
import torch

from dreambooth_nb.judge import load_judge
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.sampling import generate
from dreambooth_nb.toyland import CLASSES, CONTEXTS, PALETTE

WAYS = {'throughout': {}, 'rescale 0.7': dict(guidance_rescale=.7),
        'interval 0.2 to 0.8': dict(guidance_interval=(.2, .8))}
SCALES = {'throughout': (0, 1, 2, 4, 7.5, 10, 14), 'rescale 0.7': (4, 7.5, 14), 'interval 0.2 to 0.8': (4, 7.5, 14)}
COLUMNS = 'way', 'scale', 'prompt', 'class', 'colour', 'context', 'all_three', 'distance', 'saturated', 'contrast'
SEEDS = 4


def list_prompts(n):
    "Make n prompts of a colour, a class and a place, with what an image of each should show."
    choose = random.Random(0)
    for _ in range(n):
        asked = {'colour': choose.choice([*PALETTE]), 'class': choose.choice(CLASSES),
                 'context': choose.choice([*CONTEXTS])}
        yield f"a photo of a {asked['colour']} {asked['class']} {CONTEXTS[asked['context']]}", asked


def scores(judge, images, asked):
    "Score the images of one prompt."
    right = [{q: seen[q] == word for q, word in asked.items()} for seen in judge.read(images)]
    pixels = np.stack([np.asarray(image) for image in images]).astype(float)
    apart = judge.distances(images)[tuple(torch.triu_indices(len(images), len(images), 1))]
    return {q: np.mean([r[q] for r in right]) for q in asked} | dict(
        all_three=np.mean([all(r.values()) for r in right]), distance=apart.mean().item(),
        saturated=((pixels == 0) | (pixels == 255)).mean(), contrast=pixels.std((1, 2)).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--output', required=True)
    parser.add_argument('--prompts', type=int, default=24)
    args = parser.parse_args()
    pipeline, judge, prompts = load_pipeline(device='cpu'), load_judge(), [*list_prompts(args.prompts)]
    with open(args.output, 'w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for way, how in WAYS.items():
            for scale in SCALES[way]:
                images = generate(pipeline, [text for text, _ in prompts], SEEDS, guidance_scale=scale,
                                  num_inference_steps=20, progress=False, **how)
                for i, (text, asked) in enumerate(prompts):
                    found = scores(judge, images[i*SEEDS:(i + 1)*SEEDS], asked)
                    row = {k: f'{v:.4g}' for k, v in found.items()}
                    writer.writerow(dict(way=way, scale=scale, prompt=text) | row)
                file.flush()
                print(way, scale, flush=True)


if __name__ == '__main__': main()
