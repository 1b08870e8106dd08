"""Settings that need less memory, one added at a time: forecast, measured peak, and cost in time.

    python benchmarks/memory.py --output nbs/logs/memory.csv
    python benchmarks/memory.py --quick

Stable Diffusion 1.5's sizes with random weights, each rung in a fresh process of its own: on a CPU 64x64 pixels, 4
instance and 4 class samples a step, fp32; on a GPU 512x512, 1 + 1 samples, bf16. Forecast twice: for this training, and
for a GPU. README.md next to this file says more.
"""
import argparse
import csv
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path

from contestants import CASES, CLASS_PROMPT, INSTANCE_PROMPT, peak_memory
from processes import child

STEPS, WARMUP = 5, 1
ON_CPU = dict(resolution=64, train_batch_size=4, mixed_precision='no')
ON_GPU = dict(resolution=512, train_batch_size=1, mixed_precision='bf16')
NEVER, ALWAYS = 1e6, 1e-6   # max_grad_norm with which no step is clipped, or each one
FUSED, RECOMPUTED = dict(fused_backward_pass=True), dict(gradient_checkpointing=True)
RUNGS = {   # title -> settings of `train`; each but the second fused one adds to the one before
    'as asked': {},
    'fused_backward_pass': FUSED | dict(max_grad_norm=NEVER),
    'fused_backward_pass, every step clipped': FUSED | dict(max_grad_norm=ALWAYS),
    'gradient_checkpointing': FUSED | RECOMPUTED | dict(max_grad_norm=NEVER),
    'optimizer=adamw_8bit': RECOMPUTED | dict(optimizer='adamw_8bit'),
    'trainable=lora': RECOMPUTED | dict(trainable='lora'),
    'mixed_precision=bf16': RECOMPUTED | dict(trainable='lora', mixed_precision='bf16'),
    'half_frozen': RECOMPUTED | dict(trainable='lora', mixed_precision='bf16', half_frozen=True)}


def measure(
    job:dict,   # folder, usual, settings, steps, warmup
)->dict: # seconds and CPU seconds per step, peaks of a step and of the process, share of the steps that were clipped
    "Train in this process."
    from torch import cuda
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from dreambooth_nb import Subject, train
    marks, folder = [], Path(job['folder'])
    def look(*_):
        if on_gpu := cuda.is_available(): cuda.synchronize()
        peak = cuda.max_memory_allocated()/1e9 if on_gpu else peak_memory()
        marks.append((time.perf_counter(), time.process_time(), peak))
        if len(marks) <= job['warmup']: forget_peak(on_gpu)
    register_optimizer_step_post_hook(look)
    subject = Subject(folder/'instance', class_noun='dog', identifier='sks', instance_prompt=INSTANCE_PROMPT,
                      class_prompt=CLASS_PROMPT)
    usual = job['usual'] | dict(class_data_dir=folder/'class', num_class_images=16, max_train_steps=job['steps'],
                                progress=False, watch=False)
    run = train(subject, folder/'model', None, **usual | job['settings'])
    wall, cpu = ([b[i] - a[i] for a, b in zip(marks[job['warmup']:], marks[job['warmup'] + 1:])] for i in (0, 1))
    limit = run.config.max_grad_norm
    return dict(seconds=statistics.median(wall), cpu_seconds=statistics.median(cpu), step_gb=marks[-1][2],
                peak_gb=max(peak for *_, peak in marks),
                clipped=statistics.mean(row['grad_norm'] > limit for row in run.history))

def forget_peak(
    on_gpu:bool,
)->None:
    "Let the highest mark of memory begin again: what loading took is not a step's. (On a CPU: Linux.)"
    if on_gpu:
        from torch import cuda
        cuda.reset_peak_memory_stats()
    elif (marks := Path('/proc/self/clear_refs')).exists(): marks.write_text('5')

def forecast(
    job:dict,   # folder, usual, settings
)->dict: # GB
    "Forecast the peak of this training, and of one on a GPU."
    import torch

    from dreambooth_nb.memory import forecast_memory
    settings = job['usual'] | job['settings']
    settings.pop('max_grad_norm', None)
    def peak(device, **others): return forecast_memory(Path(job['folder'])/'model', device=device, **others).peak/1e9
    return dict(forecast_gb=peak('cuda' if torch.cuda.is_available() else 'cpu', **settings),
                forecast_gpu_gb=peak('cuda', **settings | ON_GPU))

def is_gpu_there(job:dict)->bool:
    "Look, in a process that may import torch."
    import torch
    return torch.cuda.is_available()

def rows(arguments):
    "Measure one rung after the other; yield a row for each."
    model, usual = 'toyland' if arguments.quick else 'sd15', ON_GPU if child('memory:is_gpu_there') else ON_CPU
    if arguments.quick: usual = usual | dict(resolution=64)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        child('materials:prepare', model=model, folder=folder, resolution=usual['resolution'])
        for trained in arguments.cases:
            for title in arguments.rungs:
                settings = RUNGS[title]
                if 'optimizer' in settings and not importlib.util.find_spec('bitsandbytes'): continue
                how = usual | dict(trainable=trained, with_prior_preservation=True)
                job = dict(folder=folder, usual=how, settings=settings, steps=arguments.steps, warmup=WARMUP)
                yield dict(model=model, trained=trained, rung=title,
                           **child('memory:forecast', **job), **child('memory:measure', **job))

def line(row, first): # of the table
    share, slower = row['step_gb']/first['step_gb'], row['cpu_seconds']/first['cpu_seconds']
    return (f"{row['trained']:18} {row['rung']:40} {row['forecast_gpu_gb']:8.2f} {row['forecast_gb']:8.2f} "
            f"{row['step_gb']:8.2f} {share:6.0%} {row['peak_gb']:8.2f} {row['seconds']:8.2f} "
            f"{row['cpu_seconds']:8.2f} {slower:6.2f}x "
            f"{row['clipped']:7.0%}")

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='the embedded model: a minute, and no large memory')
    parser.add_argument('--cases', nargs='+', choices=CASES, default=[*CASES], help='what is trained')
    parser.add_argument('--rungs', nargs='+', choices=RUNGS, default=[*RUNGS], metavar='NAME',
                        help=f'some of: {"; ".join(RUNGS)}; the 8-bit one needs bitsandbytes')
    parser.add_argument('--steps', type=int, default=STEPS,
                        help=f'optimiser steps; the first {WARMUP} + 1 do not count')
    parser.add_argument('--scratch', help='folder for the model (4 GB), emptied afterwards')
    parser.add_argument('--output', help='the table as .csv')
    arguments, found = parser.parse_args(), []
    print(f"{'trained':18} {'rung':40} {'GPU 512':>8} {'forecast':>8} {'step GB':>8} {'share':>6} {'in all':>8} "
          f"{'s/step':>8} {'CPU s':>8} {'cost':>7} {'clipped':>7}")
    for row in rows(arguments):
        found.append(row)
        print(line(row, next((r for r in found if r['trained'] == row['trained']), row)), flush=True)
        if not arguments.output: continue
        with open(arguments.output, 'w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, found[0])
            writer.writeheader()
            writer.writerows({k: f'{v:.4g}' if isinstance(v, float) else v for k, v in r.items()} for r in found)

if __name__ == '__main__': main()
