"""The two embedded models side by side: sampling in few steps, and one subject learned by both.

    python benchmarks/flow.py sampling      # 200 fresh captions for each sampler and number of steps
    python benchmarks/flow.py noise         # whether both models make the same image of the same noise, 100 captions
    python benchmarks/flow.py rates         # which learning rate suits each model: 160 steps with class images
    python benchmarks/flow.py training      # the teal dog, with and without class images; --seeds 0 1 2 for more
    python benchmarks/flow.py pictures      # nbs/images/flow_sampling.png
    python benchmarks/flow.py sheet         # nbs/images/flow_training.png, of what training left in --scratch

'toyland' is a UNet that denoises by a noise schedule, 'toyland-flow' a transformer trained by flow matching. Written is
nbs/logs/flow.csv, a row for each measured value; what stands there is not measured again.

Of the sampled images the judge reads what it reads, and whether class, place, colour, pattern and accessory are all
right; `distance` is how many grey levels (of 255) an image is from the one that 50 steps of the same sampler make of
the same noise. DDIM takes its steps from the noisiest level on (`timestep_spacing='trailing'`): as the model's own
configuration would have it ('linspace'), its only step would begin at level 0.

Likeness (of the subject) and PRES (how much 'a dog' resembles it) are of 16 images each, with 20 sampling steps. The
guidance scale is 4 everywhere.
"""
import argparse
import csv
import random
from functools import cache
from pathlib import Path

from PIL import Image

from dreambooth_nb.callbacks import generate_now
from dreambooth_nb.core import image_grid, to_tensor
from dreambooth_nb.drawing import render
from dreambooth_nb.evaluation import GUIDANCE_SCALE, subject_fidelity
from dreambooth_nb.judge import load_judge, reading_accuracy, truth
from dreambooth_nb.opening import load_pipeline
from dreambooth_nb.pipeline import with_parts
from dreambooth_nb.prior_images import class_images
from dreambooth_nb.sampling import generate, make_scheduler
from dreambooth_nb.subject import Subject
from dreambooth_nb.toyland import CLASSES, caption, sample_scene, subject_scenes
from dreambooth_nb.training import train
from dreambooth_nb.watching import Watch

NBS = Path(__file__).resolve().parent.parent/'nbs'
LOG = NBS/'logs'/'flow.csv'
COLUMNS = 'what', 'model', 'way', 'steps', 'seed', 'measure', 'value'
SAMPLERS = {    # of a model: the samplers, and numbers of steps; n + 1 of the last one are n equal ones and an empty
    'toyland': (('dpmsolver++', 'ddim'), (1, 2, 4, 8, 20)),
    'toyland-flow': (('flow_match_euler',), (1, 2, 3, 4, 5, 8, 9, 20, 21))}
SHIFTED = 3, 5, 9, 21      # steps of Euler with shift=2, which puts them where DDIM's are: more of them in much noise
RATES = dict.fromkeys(SAMPLERS, (1e-4, 2e-4, 4e-4, 8e-4))
LOOKS = 0, 20, 40, 80, 160, 320
IMAGES = 16     # of the subject, and of its class
PROMPTS = 'a photo of sks dog', 'a photo of a dog'
HOW = dict(num_inference_steps=20, guidance_scale=GUIDANCE_SCALE)
PICTURED = [f'a photo of a {seen}' for seen in ('red dog on the beach', 'yellow duck at night', 'blue car in the snow')]


@cache
def base_of(model, folder): return load_pipeline(folder or model)

@cache
def tools():
    "Load the judge, the subject, and photos of it that no training sees."
    return load_judge(), Subject.toyland('teal_dog'), [render(scene) for scene in subject_scenes('teal_dog', 25)[5:]]

def rows(): return list(csv.DictReader(LOG.open(encoding='utf-8'))) if LOG.exists() else []

def write(what, model, way, steps, seed, **measured):
    "Append a row for each value."
    is_new = not LOG.exists()
    with LOG.open('a', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        if is_new: writer.writerow(COLUMNS)
        for name, value in measured.items(): writer.writerow([what, model, way, steps, seed, name, f'{value:.4f}'])
    print(what, model, way, steps, seed, {name: round(value, 3) for name, value in measured.items()}, flush=True)

def is_done(*key): return any(tuple(row.values())[:len(key)] == tuple(map(str, key)) for row in rows())


# ---- sampling

def with_sampler(base, name):
    "Exchange the sampler; DDIM begins at the noisiest level, and 'shift 2' is Euler with that shift."
    own = base.scheduler
    if name == 'shift 2': return with_parts(base, scheduler=type(own).from_config(own.config, shift=2.))
    scheduler = make_scheduler(base, name)
    if name == 'ddim': scheduler = type(scheduler).from_config(scheduler.config, timestep_spacing='trailing')
    return with_parts(base, scheduler=scheduler)

def drawn(pipeline, scenes, steps):
    how = dict(seed=0, guidance_scale=GUIDANCE_SCALE, num_inference_steps=steps, precision='auto', progress=False)
    return generate(pipeline, [caption(scene) for scene in scenes], **how)

def sampling(folders):
    rng = random.Random('few steps')
    scenes = [sample_scene(rng, CLASSES[i % len(CLASSES)]) for i in range(200)]
    runs = [(model, sampler, counts) for model, (samplers, counts) in SAMPLERS.items() for sampler in samplers]
    for model, sampler, counts in [*runs, ('toyland-flow', 'shift 2', SHIFTED)]:
        missing = [n for n in counts if not is_done('sampling', model, sampler, n)]
        if not missing: continue
        pipeline = with_sampler(base_of(model, folders.get(model)), sampler)
        goal = to_tensor(drawn(pipeline, scenes, 50))
        for steps in missing:
            images = drawn(pipeline, scenes, steps)
            found = reading_accuracy(tools()[0], images, scenes)
            read = tools()[0].read(images)
            found['everything'] = sum(seen == truth(scene) for seen, scene in zip(read, scenes))/len(scenes)
            found['distance'] = (to_tensor(images) - goal).abs().mean().item()*127.5
            write('sampling', model, sampler, steps, 0, **found)

def noise(folders):
    "Compare the two models' images of the same noise, and of other noise, of the same captions."
    rng = random.Random('same noise')
    captions = [caption(sample_scene(rng, CLASSES[i % len(CLASSES)])) for i in range(100)]
    for scale in (1., GUIDANCE_SCALE):      # at 1 there is no guidance
        if is_done('noise', 'both', f'scale {scale:g}'): continue
        how = dict(guidance_scale=scale, num_inference_steps=25, precision='auto', progress=False)
        first, same, other = (to_tensor(generate(base_of(model, folders.get(model)), captions, seed=seed, **how))
                              for model, seed in (('toyland', 0), ('toyland-flow', 0), ('toyland-flow', 1000)))
        apart = [(first - images).abs().mean().item()*127.5 for images in (same, other)]
        write('noise', 'both', f'scale {scale:g}', 25, 0, same=apart[0], other=apart[1])


# ---- training

class Look(Watch):
    "Measures at some steps, and keeps one image of each prompt."
    def __init__(self, steps):
        super().__init__(PROMPTS, steps)
        self.found, self.shown = {}, []

    def images_of(self, module):
        judge, _, real = tools()
        images = generate_now(module, PROMPTS, IMAGES, **HOW)
        alike = subject_fidelity(judge, images, real)
        self.found[module.step] = dict(likeness=alike[:IMAGES].mean().item(), pres=alike[IMAGES:].mean().item())
        self.shown.append([images[0], images[IMAGES]])
        return [images[0], images[IMAGES]]

@cache
def class_images_of(model, folder):
    return class_images(base_of(model, folder), PROMPTS[1], 50, progress=False, **HOW)

def learn(model, folder, rate, prior, seed, looks):
    "Train, and return what was seen."
    how = dict(prior=class_images_of(model, folder)) if prior else dict(with_prior_preservation=False)
    look = Look(looks)
    train(tools()[1], base_of(model, folder), max_train_steps=looks[-1], learning_rate=rate, seed=seed, watch=look,
          progress=False, **how)
    return look

def rates(folders):
    for model, tried in RATES.items():
        for rate in tried:
            if is_done('rates', model, f'{rate:g}'): continue
            look = learn(model, folders.get(model), rate, True, 0, (160,))
            for step, found in look.found.items(): write('rates', model, f'{rate:g}', step, 0, **found)

def chosen(model)->float:
    "Return the rate with the largest likeness minus PRES after 160 steps."
    tried = {(r['way'], r['measure']): float(r['value']) for r in rows()
             if (r['what'], r['model'], r['steps']) == ('rates', model, '160')}
    if not tried: raise SystemExit(f'{model}: run `python benchmarks/flow.py rates` first')
    return float(max({way for way, _ in tried}, key=lambda way: tried[way, 'likeness'] - tried[way, 'pres']))

def training(folders, scratch, seeds):
    rate_of = {model: chosen(model) for model in RATES}
    for seed in seeds:
        for model, rate in rate_of.items():
            for way in ('without prior', 'with prior'):
                if is_done('training', model, way, LOOKS[-1], seed): continue
                look = learn(model, folders.get(model), rate, way == 'with prior', seed, LOOKS)
                for step, found in look.found.items(): write('training', model, way, step, seed, **found)
                if seed: continue
                for number, name in enumerate(('subject', 'class')):
                    shown = [images[number] for images in look.shown]
                    image_grid(shown, len(shown)).save(scratch/f'{model}-{way}-{name}.png')


# ---- pictures

def training_sheet(scratch):
    "Put the strips of the trainings together: each model, way and prompt is a row."
    labels, shown = [], []
    for model in SAMPLERS:
        for way in ('without prior', 'with prior'):
            for name, prompt in zip(('subject', 'class'), PROMPTS):
                strip = Image.open(scratch/f'{model}-{way}-{name}.png').convert('RGB')
                corners = [(4 + 68*x, 4) for x in range(len(LOOKS))]
                shown += [strip.crop((x, y, x + 64, y + 64)) for x, y in corners]
                labels.append(f"{model}, {way}: '{prompt.removeprefix('a photo of ')}'")
    sheet = image_grid(shown, len(LOOKS), labels, 1, [f'{n}' for n in LOOKS], text_size=12)
    sheet.quantize(128, kmeans=4).save(NBS/'images'/'flow_training.png', optimize=True)

def pictures(folders):
    "Draw few steps of each model, side by side."
    labels, shown, counts = [], [], (1, 2, 4, 8, 20)
    for model, (samplers, _) in SAMPLERS.items():
        for sampler in samplers:
            labels += [f'{model}, {sampler}'] + ['']*(len(PICTURED) - 1)
            for prompt in PICTURED:
                pipeline = with_sampler(base_of(model, folders.get(model)), sampler)
                more = model == 'toyland-flow'      # whose last step is nearly none
                shown += [generate(pipeline, prompt, seed=3, guidance_scale=GUIDANCE_SCALE, progress=False,
                                   num_inference_steps=n + (more and n > 1))[0] for n in counts]
    sheet = image_grid(shown, len(counts), labels, 1, [f'{n}' for n in counts], text_size=14)
    sheet.quantize(128, kmeans=4).save(NBS/'images'/'flow_sampling.png', optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['sampling', 'noise', 'rates', 'training', 'pictures', 'sheet'])
    parser.add_argument('--scratch', type=Path, default=Path('.'), help='where training keeps its strips of images')
    parser.add_argument('--folder', help='of a model that stands in for toyland-flow')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of training (%(default)s)')
    args = parser.parse_args()
    folders = {'toyland-flow': args.folder} if args.folder else {}
    if args.what == 'training': return training(folders, args.scratch, args.seeds)
    if args.what == 'sheet': return training_sheet(args.scratch)
    dict(sampling=sampling, noise=noise, rates=rates, pictures=pictures)[args.what](folders)


if __name__ == '__main__': main()
