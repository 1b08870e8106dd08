"""What the weight of the prior does over the steps of a training: images at three guidance scales, likeness and PRES.

    python benchmarks/prior_runs.py --output nbs/logs/prior-runs
    python benchmarks/prior_runs.py --output nbs/logs/prior-runs --sheet nbs/images/prior_runs.png  # the figure of 06

The trainings of notebook 06 (teal dog, 24 class images, a learning rate of 2e-4, seed 0), with five weights and twice
as many steps. Written are OUTPUT.csv, a row for each weight and step, and OUTPUT.webp with a row of images for each of
them: for each scale two of each prompt. Likeness and PRES are of 24 images at the first scale. A weight whose rows are
there already is left out. Notebooks 06 and 10 let the reader look through them.
"""
import argparse
import csv
from pathlib import Path

from PIL import Image

from dreambooth_nb.callbacks import generate_now
from dreambooth_nb.core import image_grid
from dreambooth_nb.drawing import render
from dreambooth_nb.evaluation import subject_fidelity
from dreambooth_nb.judge import load_judge
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.prior_images import class_images
from dreambooth_nb.subject import Subject
from dreambooth_nb.toyland import subject_scenes
from dreambooth_nb.training import train
from dreambooth_nb.watching import Watch

WEIGHTS, STEPS, SCALES = (0, .1, .3, 1, 3), (0, 20, 40, 80, 160, 320), (4, 1, 7.5)
PROMPTS = 'a photo of sks dog', 'a photo of a dog', 'a photo of a cat'
COLUMNS = 'prior_loss_weight', 'step', 'likeness', 'pres'
SAMPLING = dict(num_inference_steps=15)


class Look(Watch):
    "Generates the images of a row, and measures."
    def __init__(self, weight, judge, real):
        super().__init__(PROMPTS, STEPS)
        self.weight, self.judge, self.real, self.rows, self.images = weight, judge, real, [], []

    def images_of(self, module):
        images = [image for scale in SCALES
                  for image in generate_now(module, PROMPTS, 2, guidance_scale=scale, **SAMPLING)]
        many = generate_now(module, PROMPTS[:2], 24, guidance_scale=SCALES[0], **SAMPLING)
        alike = subject_fidelity(self.judge, many, self.real)
        likeness, pres = alike[:24].mean().item(), alike[24:].mean().item()
        self.rows.append(dict(zip(COLUMNS, (self.weight, module.step, f'{likeness:.4f}', f'{pres:.4f}'), strict=True)))
        self.images.append(side_by_side(images))
        print(self.rows[-1], flush=True)
        return images[:2*len(PROMPTS)]


def side_by_side(images):
    "Make one image of images of the same size."
    strip = Image.new('RGB', (sum(image.width for image in images), images[0].height))
    for i, image in enumerate(images): strip.paste(image, (i*image.width, 0))
    return strip


def below_each_other(images):
    "Make one image of images of the same width."
    sheet = Image.new('RGB', (images[0].width, sum(image.height for image in images)))
    for i, image in enumerate(images): sheet.paste(image, (0, i*image.height))
    return sheet


def write(output, rows, images):
    "Write what there is so far; the images without loss until all are there."
    with open(f'{output}.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    is_whole = len(rows) == len(WEIGHTS)*len(STEPS)
    below_each_other(images).save(f'{output}.webp', lossless=not is_whole, quality=85, method=6)


def read(output):
    "Read what an earlier call has written."
    path = Path(f'{output}.csv')
    if not path.exists(): return [], []
    with open(path, newline='') as file: rows = list(csv.DictReader(file))
    with Image.open(f'{output}.webp') as sheet: sheet = sheet.convert('RGB')
    high = sheet.height//len(rows)
    return rows, [sheet.crop((0, i*high, sheet.width, (i + 1)*high)) for i in range(len(rows))]


def draw_figure(rows, images):
    "Show the subject and its class, the first image each at the first scale, for each weight and step."
    side, labels, cells = images[0].height, [], []
    for weight in WEIGHTS:
        found = [image for row, image in zip(rows, images, strict=True) if float(row['prior_loss_weight']) == weight]
        for name, column in (('sks dog', 0), ('a dog', 2)):
            labels.append(f'{weight:g}: {name}')
            cells += [image.crop((column*side, 0, (column + 1)*side, side)) for image in found]
    headings = [f'step {step}' for step in STEPS]
    return image_grid(cells, len(STEPS), labels, 1.25, headings, text_size=14).quantize(128, kmeans=4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--output', required=True, help='path without .csv and .webp')
    parser.add_argument('--sheet', help='draw the figure of what is there, into this PNG file')
    args = parser.parse_args()
    if args.sheet: return draw_figure(*read(args.output)).save(args.sheet, optimize=True)
    base, judge, subject = load_pipeline(), load_judge(), Subject.toyland('teal_dog')
    real = [render(scene) for scene in subject_scenes('teal_dog', 25)[5:]]    # no training sees these
    prior = class_images(base, PROMPTS[1], 24, guidance_scale=4., progress=False, **SAMPLING)
    rows, images = read(args.output)
    for weight in WEIGHTS[len(rows)//len(STEPS):]:
        look = Look(weight, judge, real)
        # without a prior the samples of a step are the subject's alone, as in the notebook
        how = dict(prior=prior, prior_loss_weight=weight) if weight else dict(with_prior_preservation=False)
        train(subject, base, max_train_steps=STEPS[-1], learning_rate=2e-4, watch=look, progress=False, **how)
        rows, images = rows + look.rows, images + look.images
        write(args.output, rows, images)


if __name__ == '__main__': main()
