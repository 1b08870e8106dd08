"""Where a training step's time goes: kinds of work in milliseconds, for each contestant, by threads and neighbours.

    python benchmarks/profile_step.py --output profile.md
    python benchmarks/profile_step.py --model toyland --diffusers_script path/to/train_dreambooth.py

Three machines: one thread, two threads, two threads beside a busy process. The contestants and models are those of
training.py. README.md next to this file says how to read the table.
"""
import argparse
import importlib
import json
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from functools import wraps
from pathlib import Path

from contestants import CASES, CONTESTANTS, RUN
from materials import MODELS, PIXELS
from processes import child
from training import BATCH, STEPS, add_contestants, parse

MACHINES = {'1': (1, 0), '2': (2, 0), '2+1': (2, 1)}    # threads, busy neighbours
MACHINE_NAMES = {'1': '1 thread', '2': '2 threads', '2+1': '2 threads, busy neighbour'}
# the first kind whose pattern an operation, or one that it is part of, matches; regions are opened by `mark_regions`
KINDS = {
    'VAE': '^region: VAE',
    'text encoder': '^region: text encoder',
    'optimiser': '^region: optimiser|_fused_adam|zero_grad',
    'clipping': '^region: clipping',
    'data loading': r'DataLoader',
    'attention, backward': '(ScaledDotProduct|FlashAttention).*Backward',
    'attention, forward': 'scaled_dot_product|flash_attention',
    'convolutions, backward': 'ConvolutionBackward',
    'convolutions, forward': '^aten::(conv2d|convolution)',
    'matrix products, backward': '(Addmm|Mm|Bmm|Baddbmm|Linear|Matmul|LinearPointwise)Backward',
    'matrix products, forward': '^(aten|mkldnn)::_?(linear|matmul|addmm|mm|bmm|baddbmm|linear_pointwise)$',
    'norms and activations': '(?i)group_?norm|layer_?norm|silu|gelu|dropout|softmax',
    'casts': '^aten::(to|_to_copy)$|ToCopyBackward',    # autocast's, above all
    'other operations': r'^aten::|Backward\d+$|AccumulateGrad'}  # a Backward without number is Python's
REST = 'Python and waiting'


# ---- in the process that is measured

def mark_regions():
    "Give names to what no single operation shows: who calls the VAE, the text encoder, the optimiser, the clipping."
    import torch
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel
    def mark(owner, name, region):
        function = getattr(owner, name)
        @wraps(function)
        def marked(*args, **kwargs):
            with torch.profiler.record_function(f'region: {region}'): return function(*args, **kwargs)
        setattr(owner, name, marked)
    mark(AutoencoderKL, 'encode', 'VAE')
    mark(CLIPTextModel, 'forward', 'text encoder')
    mark(importlib.import_module('torch.optim.adam'), 'adam', 'optimiser')  # AdamW's too
    for name in ('clip_grad_norm_', 'get_total_norm', 'clip_grads_with_norm_'): mark(torch.nn.utils, name, 'clipping')

def kind_of(name): return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), None)

def time_of_kinds(
    events, # of torch.profiler
)->dict: # kind -> thread -> microseconds
    "Add up the time of each kind on each thread; a part of an operation belongs to the operation's kind."
    spent, of_text_encoder = defaultdict(lambda: defaultdict(float)), set()
    def add(event, kind):
        if kind in (None, 'other operations'): kind = kind_of(event.name) or kind
        if (event.fwd_thread, event.sequence_nr) in of_text_encoder: kind = 'text encoder'  # its backward
        if kind == 'text encoder' and event.sequence_nr >= 0: of_text_encoder.add((event.thread, event.sequence_nr))
        if kind: spent[kind][event.thread] += event.self_cpu_time_total
        for part in event.cpu_children: add(part, kind)
    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.cpu_parent is None: add(event, None)
    return spent

def profile(
    job:dict, # as `contestants.measure` takes; steps = warmup + 1 + plain steps + profiled steps
)->dict: # 'kinds': milliseconds per step; 'step' with the profiler; 'plain' and 'cpu' without: milliseconds
    "Train, first without the profiler, then with it."
    import torch
    from torch._C._profiler import _ExperimentalConfig
    from torch.optim.optimizer import register_optimizer_step_post_hook
    mark_regions()
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                                      experimental_config=_ExperimentalConfig(profile_all_threads=True))
    marks, began, ended = [], job['steps'] - job['profiled'], []
    def look(*_):
        marks.append((time.perf_counter(), time.process_time()))
        if len(marks) == job['steps']:
            ended.append(time.perf_counter())
            profiler.stop()
        if len(marks) == began:
            profiler.start()
            ended.append(time.perf_counter())
    register_optimizer_step_post_hook(look)
    RUN[job['contestant']](job)
    plain = marks[job['warmup']:began]
    wall, cpu = (statistics.median(1000*(b[i] - a[i]) for a, b in zip(plain, plain[1:])) for i in (0, 1))
    step = 1000*(ended[1] - ended[0])/job['profiled']
    # threads that share a kind of work do it at the same time
    kinds = {kind: statistics.mean(by_thread.values())/1000/job['profiled']
             for kind, by_thread in time_of_kinds(profiler.events()).items()}
    return dict(kinds=kinds | {REST: step - sum(kinds.values())}, step=step, plain=wall, cpu=cpu)


# ---- one command that profiles them all

def table(rows:list[dict])->str: # Markdown
    "Show kinds of work downwards, contestants and machines across."
    kinds = [kind for kind in (*KINDS, REST) if any(kind in row['kinds'] for row in rows)]
    head = ['ms per step', *(f"{row['contestant']}, {row['machine']}" for row in rows)]
    lines = ['| ' + ' | '.join(head) + ' |', '|---|' + '---:|'*len(rows)]
    def line(name, cells): lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    for kind in kinds: line(kind, [f"{row['kinds'][kind]:.1f}" if kind in row['kinds'] else '' for row in rows])
    whole = {'step': '**step, profiled**', 'plain': '**step, not profiled**', 'cpu': 'CPU, not profiled'}
    for key, name in whole.items(): line(name, [f'{row[key]:.0f}' for row in rows])
    return '\n'.join(lines)

def report(rows:list[dict], where:dict, a)->str: # Markdown
    "Put the conditions under the table."
    names = '; '.join(f'{k}: {CONTESTANTS[k]}' for k in dict.fromkeys(row['contestant'] for row in rows))
    first, device = rows[0], where['device'].split(',')[0]
    return f"""{table(rows)}

- {names}. {MODELS[a.model]}, {CASES[a.case]}; {a.batch or BATCH[a.model]} instance + as many class samples,
  {PIXELS[a.model]} pixels, precision '{a.precision}'.
- {device}, torch {where['torch']}. Means of {first['profiled']} profiled steps; 'not profiled' is the median of
  {first['unprofiled']} steps before them.
"""

def runs(a, order):
    "Profile one contestant after the other; yield a row for each."
    unprofiled, profiled = (3, 2) if a.quick else (a.steps, max(4, a.steps//4))
    work = dict(model=a.model, case=a.case, batch=a.batch or BATCH[a.model], resolution=PIXELS[a.model],
                precision=a.precision, compile=False, script=a.diffusers_script, warmup=2, profiled=profiled,
                steps=3 + unprofiled + profiled)
    with tempfile.TemporaryDirectory(dir=a.scratch) as folder:
        child('materials:prepare', folder=folder, **work)
        for contestant in order:
            for machine in a.machines:
                threads, neighbours = MACHINES[machine]
                found = child('profile_step:profile', threads, folder=folder, neighbours=neighbours,
                              contestant=contestant, **work)
                row = dict(contestant=contestant, machine=MACHINE_NAMES[machine], unprofiled=unprofiled)
                yield row | dict(profiled=profiled) | found

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', choices=[*STEPS], default='small', help='default: small')
    parser.add_argument('--case', choices=[*CASES], default='unet', help='what is trained; default: unet')
    parser.add_argument('--precision', choices=['same', 'default'], default='same',
                        help='same (default): fp32 for all; default: each contestant as it comes')
    parser.add_argument('--steps', type=int, default=24, help='without the profiler, default: 24; with it a quarter')
    parser.add_argument('--batch', type=int,
                        help=f'instance samples per step, and as many class samples; default: {BATCH}')
    parser.add_argument('--machines', nargs='+', choices=[*MACHINES], default=[*MACHINES],
                        help='threads, and +1 for a busy neighbour; default: all three')
    add_contestants(parser)
    a, order = parse(parser)
    where, rows = child('materials:machine'), []
    for row in runs(a, order):
        rows.append(row)
        print(f"{row['contestant']}, {row['machine']}: {row['plain']:.0f} ms per step, {row['step']:.0f} profiled",
              file=sys.stderr, flush=True)
    text = report(rows, where, a)
    print(text)
    if not a.output: return
    Path(a.output).write_text(text, encoding='utf-8')
    Path(a.output).with_suffix('.json').write_text(json.dumps(dict(where=where, rows=rows), indent=1))


if __name__ == '__main__': main()
