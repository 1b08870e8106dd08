"""Training speed and memory on a GPU at Stable Diffusion 1.5's and SDXL's sizes; random weights, no network.

    python benchmarks/gpu.py --output gpu.md
    python benchmarks/gpu.py --diffusers_script path/to/train_dreambooth.py
    python benchmarks/gpu.py --toy      # the same at toy sizes, on any machine

bf16, 512 and 1024 pixels, with and without torch.compile. The contestants and the table are those of training.py;
README.md next to this file says what is compared.
"""
import argparse
import sys
import tempfile
from itertools import product

from processes import child
from training import add_contestants, collect, measured, parse

PIXELS, TOY_PIXELS = (512, 1024), (64, 128)
COMPILE = dict(no=(False,), yes=(True,), both=(False, True))
BATCH = {'sd15': 2, 'sdxl': 1, 'toy-sd15': 1, 'toy-sdxl': 1}


def runs_of_model(a, model, resolution, order):
    "Measure everyone on one model at one resolution; yield a row for each."
    is_xl = model.endswith('sdxl')
    steps, warmup, rounds = (5, 1, 1) if a.toy or a.quick else (a.steps, 5, a.rounds)
    ways = COMPILE[a.torch_compile or ('no' if a.toy else 'both')]
    work = dict(model=model, resolution=resolution, case='unet', precision='bf16', neighbours=0,
                batch=a.batch or BATCH[model], steps=steps, warmup=warmup, script=a.diffusers_script)
    with tempfile.TemporaryDirectory(dir=a.scratch) as folder:
        if not is_xl: child('materials:prepare', folder=folder, **work)
        flops = child('materials:unet_flops' if is_xl else 'materials:step_flops', folder=folder, **work)
        for compile, number in product(ways, range(rounds)):
            for contestant in order:
                job = work | dict(folder=folder, contestant=contestant, compile=compile)
                if not is_xl or contestant == 'U': yield measured(job, None, number, may_fail=True) | flops
                elif contestant == 'B': yield job | dict(round=number, note='does not train SDXL yet') | flops

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--toy', action='store_true', help='toy sizes, few steps; runs without a GPU')
    parser.add_argument('--model', choices=['sd15', 'sdxl', 'both'], default='both', help='default: both')
    parser.add_argument('--pixels', type=int, nargs='+',
                        help=f'sides of the images; default: {PIXELS}, toys {TOY_PIXELS}')
    parser.add_argument('--torch_compile', choices=[*COMPILE],
                        help="compile the UNet; default: both, toys no: on a CPU a toy's takes minutes too")
    parser.add_argument('--steps', type=int, default=30, help='of each run, of which 5 warm up; default: 30')
    parser.add_argument('--batch', type=int,
                        help='instance samples per step, and as many class samples; default: 2, SDXL 1')
    parser.add_argument('--rounds', type=int, default=2, help='how often each contestant runs; default: 2')
    add_contestants(parser, 'UAB', ', U the UNet alone')
    a, order = parse(parser)
    where = child('materials:machine')
    if not (where['is_gpu'] or a.toy):
        sys.exit('torch finds no GPU on this machine, and these sizes are not for a CPU; '
                 'python benchmarks/gpu.py --toy runs the same at toy sizes')
    models = ['sd15', 'sdxl'] if a.model == 'both' else [a.model]
    if a.toy: models = [f'toy-{model}' for model in models]
    pixels = a.pixels or (TOY_PIXELS if a.toy else PIXELS)
    rows = (row for model, size in product(models, pixels) for row in runs_of_model(a, model, size, order))
    collect(rows, where, a.output)


if __name__ == '__main__': main()
