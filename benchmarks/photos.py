"""What different photos of one dog teach: is it on the rug where no prompt asked for one?

    python benchmarks/photos.py --output nbs/logs/photos

Three sets of five photos of the teal dog: in five places, always on the rug, and always on the rug with captions that
say so. After a short training of each, images of 'a photo of sks dog', which names no place; the judge says where the
dog is. Writes photos.csv, one row per image, and photos.png, the first five of each. Notebook 05 shows both.
"""
import argparse
import csv
import random
from pathlib import Path

from dreambooth_nb import Subject, generate, train
from dreambooth_nb.core import image_grid
from dreambooth_nb.drawing import render
from dreambooth_nb.judge import load_judge
from dreambooth_nb.toyland import SUBJECTS, place, subject_scenes


def photo_sets():
    "Return the subjects to compare, by name."
    rng, look = random.Random(0), SUBJECTS['teal_dog']
    on_rug = [render(place(look, rng, 'rug')) for _ in range(5)]
    return {
        'five places': Subject([render(scene) for scene in subject_scenes('teal_dog')], 'dog'),
        'always on the rug': Subject(on_rug, 'dog'),
        'on the rug, and the captions say so': Subject(on_rug, 'dog', captions=['a photo of sks dog on a rug']*5)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--output', required=True, help='without an ending: .csv and .png are written')
    parser.add_argument('--steps', type=int, default=60)
    parser.add_argument('--num_images', type=int, default=24, help='per set')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    judge, rows, shown = load_judge(), [], {}
    for name, subject in photo_sets().items():
        run = train(subject, max_train_steps=args.steps, seed=args.seed, progress=False, watch=False)
        images = generate(run.pipeline, subject.instance_prompt, args.num_images, seed=args.seed, guidance_scale=4.,
                          num_inference_steps=20, progress=False)
        shown[name] = images[:5]
        read = [answer['context'] for answer in judge.read(images)]
        rows += [(name, args.steps, args.seed + i, context) for i, context in enumerate(read)]
        print(f'{name}: {read.count("rug")} of {len(read)} on the rug', flush=True)
    output = Path(args.output)
    with open(output.with_suffix('.csv'), 'w', newline='', encoding='utf-8') as f:
        csv.writer(f, lineterminator='\n').writerows([('photos', 'steps', 'seed', 'place'), *rows])
    images = [image for row in shown.values() for image in row]
    image_grid(images, 5, list(shown), scale=2, text_size=14).quantize(256, kmeans=4).save(output.with_suffix('.png'))


if __name__ == '__main__': main()
