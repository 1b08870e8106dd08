"""Training speed and memory of this package against a plain loop, and against diffusers' own script.

    python benchmarks/training.py --output results.md
    python benchmarks/training.py --model sd15 --steps 8 --diffusers_script path/to/train_dreambooth.py

All contestants train the same model on the same images, with the same batch, loss, AdamW, clipping and precision
(fp32), each in a fresh process of its own, in the order A B A B. README.md next to this file says what is compared.
"""
import argparse
import json
import os
import platform
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

# torch is imported by the processes that measure, never by the one that starts them: a child's peak memory begins at
# its parent's
CONTESTANTS = {'A': 'plain loop', 'B': 'dreambooth_nb', 'C': 'train_dreambooth.py of diffusers'}
MODELS = {'toyland': 'the embedded model', 'sd15': "Stable Diffusion 1.5's sizes"}
CASES = {'unet': 'UNet', 'unet+text_encoder': 'UNet + text encoder'}
STEPS = {'toyland': 60, 'sd15': 10}
INSTANCE_PROMPT, CLASS_PROMPT, RESOLUTION, LEARNING_RATE = 'a photo of sks dog', 'a photo of a dog', 64, 5e-6


# ---- the material: a pipeline folder and two folders of images

def stable_diffusion_parts()->dict: # name -> module without weights, on the 'meta' device
    "Return Stable Diffusion 1.5's parts by their configuration."
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    with torch.device('meta'):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
            down_block_types=('DownEncoderBlock2D',)*4, up_block_types=('UpDecoderBlock2D',)*4)
        text_encoder = CLIPTextModel(CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768))
    return dict(unet=unet, vae=vae, text_encoder=text_encoder)

def with_random_weights(part):
    "Put a module on the CPU, its weights cut from one block of random numbers: a billion in seconds."
    import torch
    part, block = part.to_empty(device='cpu'), torch.empty(2**20 + 7).uniform_(-1, 1)
    for name, weight in part.named_parameters():
        flat = weight.data.view(-1)
        if weight.ndim < 2: flat.fill_(float('norm' in name and name.endswith('weight')))
        else:
            scaled = block/weight[0].numel()**.5    # as PyTorch's own on average
            for start in range(0, len(flat), len(block)): flat[start:start + len(block)] = scaled[:len(flat) - start]
    return part.eval()

def prepare(
    model:str,  # 'toyland' or 'sd15'
    folder:str, # gets model/, instance/ and class/
)->None:
    "Write what all contestants open; class images are soft colours, since speed does not depend on them."
    import numpy as np
    from dreambooth_nb.opening import load_pipeline
    from dreambooth_nb.pipeline import with_parts
    from dreambooth_nb.subject import Subject
    from PIL import Image
    folder, rng = Path(folder), np.random.default_rng(0)
    for part in ('instance', 'class'): (folder/part).mkdir(parents=True)
    size = RESOLUTION, RESOLUTION
    for i, image in enumerate(Subject.toyland('teal_dog').images): image.resize(size).save(folder/'instance'/f'{i}.png')
    for i in range(16):
        colours = Image.fromarray(rng.integers(0, 256, (4, 4, 3), 'uint8'))
        colours.resize(size, Image.BICUBIC).save(folder/'class'/f'{i:02}.png')
    pipeline = load_pipeline('toyland', device='cpu')
    if model == 'sd15':
        pipeline.tokenizer.model_max_length = 77
        parts = {name: with_random_weights(part) for name, part in stable_diffusion_parts().items()}
        pipeline = with_parts(pipeline, **parts)
    pipeline.save_pretrained(folder/'model')


# ---- the contestants: each runs in a process of its own, and a hook on the optimiser's steps looks at clock and memory

def plain_loop(job):
    "Train as contestant A: what the method needs, written down without a thought of speed."
    import numpy as np
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from PIL import Image
    from torch.nn.functional import mse_loss
    from torch.utils.data import DataLoader, Dataset
    from transformers import AutoTokenizer, CLIPTextModel

    folder, device = Path(job['folder'])/'model', 'cuda' if torch.cuda.is_available() else 'cpu'
    tokenizer = AutoTokenizer.from_pretrained(folder/'tokenizer')
    noise_scheduler = DDPMScheduler.from_pretrained(folder/'scheduler')
    unet = UNet2DConditionModel.from_pretrained(folder/'unet').to(device)
    vae = AutoencoderKL.from_pretrained(folder/'vae').to(device)
    text_encoder = CLIPTextModel.from_pretrained(folder/'text_encoder').to(device)
    vae.requires_grad_(False)
    text_encoder.requires_grad_('text_encoder' in job['case']).train('text_encoder' in job['case'])
    unet.train()

    class Pairs(Dataset):
        "Instance image i and class image i, opened when asked for."
        def __init__(self):
            self.paths = [sorted((Path(job['folder'])/part).iterdir()) for part in ('instance', 'class')]
        def __len__(self): return max(map(len, self.paths))
        def __getitem__(self, i):
            images = [Image.open(paths[i % len(paths)]).convert('RGB') for paths in self.paths]
            ids = tokenizer([INSTANCE_PROMPT, CLASS_PROMPT], padding='max_length', truncation=True, return_tensors='pt')
            pixels = torch.stack([torch.from_numpy(np.array(image)) for image in images])
            return pixels.permute(0, 3, 1, 2)/127.5 - 1, ids.input_ids

    loader = DataLoader(Pairs(), batch_size=job['batch'], shuffle=True, drop_last=True)
    trained = [p for part in (unet, text_encoder) for p in part.parameters() if p.requires_grad]
    optimizer, step = torch.optim.AdamW(trained, lr=LEARNING_RATE), 0
    while step < job['steps']:
        for pixels, ids in loader:
            # instance samples first, then class samples
            pixels, ids = (x.transpose(0, 1).flatten(0, 1).to(device) for x in (pixels, ids))
            with torch.no_grad(): latents = vae.encode(pixels).latent_dist.sample()*vae.config.scaling_factor
            noise, timesteps = torch.randn_like(latents), torch.randint(1000, (len(latents),), device=device)
            noisy_latents = noise_scheduler.add_noise(latents, noise, timesteps)
            model_pred = unet(noisy_latents, timesteps, text_encoder(ids)[0]).sample
            is_v = noise_scheduler.config.prediction_type == 'v_prediction'
            target = noise_scheduler.get_velocity(latents, noise, timesteps) if is_v else noise
            loss = sum(mse_loss(*parts) for parts in zip(model_pred.chunk(2), target.chunk(2)))  # instance + 1.0*prior
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            if (step := step + 1) == job['steps']: break
    pipeline = StableDiffusionPipeline(vae, text_encoder.eval(), tokenizer, unet.eval(), noise_scheduler, None, None,
                                       requires_safety_checker=False)
    pipeline.save_pretrained(job['output'])

def our_engine(job):
    "Train as contestant B: `train` of this package."
    from dreambooth_nb import Subject, train
    folder = Path(job['folder'])
    subject = Subject(folder/'instance', class_noun='dog', identifier='sks', instance_prompt=INSTANCE_PROMPT,
                      class_prompt=CLASS_PROMPT)
    train(subject, folder/'model', job['output'], trainable=job['case'], with_prior_preservation=True,
          class_data_dir=folder/'class', num_class_images=16, resolution=RESOLUTION, train_batch_size=job['batch'],
          max_train_steps=job['steps'], learning_rate=LEARNING_RATE, mixed_precision='no',
          torch_compile=job['compile'], progress=False)

def diffusers_script(job):
    "Train as contestant C: the script as it is; only its arguments are ours."
    folder = Path(job['folder'])
    settings = dict(
        pretrained_model_name_or_path=folder/'model', instance_data_dir=folder/'instance',
        class_data_dir=folder/'class', output_dir=job['output'],
        instance_prompt=INSTANCE_PROMPT, class_prompt=CLASS_PROMPT, num_class_images=16,
        resolution=RESOLUTION, train_batch_size=job['batch'], max_train_steps=job['steps'], learning_rate=LEARNING_RATE,
        lr_scheduler='constant', mixed_precision='no', seed=0)
    sys.argv = [job['script'], '--with_prior_preservation', *(f'--{name}={value}' for name, value in settings.items())]
    if 'text_encoder' in job['case']: sys.argv.append('--train_text_encoder')
    runpy.run_path(job['script'], run_name='__main__')

def peak_memory()->float: # GB
    "Return the most memory that this process has had so far."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*(1 if sys.platform == 'darwin' else 1024)/1e9

def measure(
    job:dict,   # contestant, folder, case, batch, steps, warmup ...
)->dict: # seconds and CPU seconds per step, peak memory at the last step and at the end
    "Run one contestant in this process."
    from torch import cuda
    from torch.optim.optimizer import register_optimizer_step_post_hook
    marks = []
    def look(*_):
        if cuda.is_available(): cuda.synchronize()
        marks.append((time.perf_counter(), time.process_time(), peak_memory()))
    register_optimizer_step_post_hook(look)
    dict(A=plain_loop, B=our_engine, C=diffusers_script)[job['contestant']](job)
    if len(marks) != job['steps']:
        raise RuntimeError(f"{len(marks)} optimiser steps were seen, {job['steps']} were asked for")
    marks_after_warmup = marks[job['warmup']:]
    wall, cpu = ([b[i] - a[i] for a, b in zip(marks_after_warmup, marks_after_warmup[1:])] for i in (0, 1))
    return dict(
        seconds=statistics.median(wall), spread=[min(wall), max(wall)], cpu_seconds=statistics.median(cpu),
        peak_training=marks[-1][2], peak=peak_memory(),
        peak_gpu=cuda.max_memory_allocated()/1e9 if cuda.is_available() else None)


# ---- what a step has to compute, and what the machine could

def matmul_rate(size:int=2048, repeats:int=12)->float: # FLOP/s
    "Time fp32 products of square matrices, by torch.mm and by oneDNN (much faster on AMD); the fastest counts."
    import torch
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    a, b, seconds = torch.randn(size, size, device=device), torch.randn(size, size, device=device), []
    products = [lambda: a @ b]
    if device == 'cpu' and torch.backends.mkldnn.is_available():
        products.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, 'none', [], ''))
    for product in products*repeats:
        start = time.perf_counter()
        product()[0, 0].item()
        seconds.append(time.perf_counter() - start)
    return 2*size**3/min(seconds)

def step_flops(job:dict)->dict: # FLOPs of one step: 'needed' by the loss, and by a 'plain' loop that encodes every time
    "Count products and convolutions, forward and backward, without computing them (on the 'meta' device)."
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import CLIPTextConfig, CLIPTextModel
    folder, samples, learns = Path(job['folder'])/'model', 2*job['batch'], 'text_encoder' in job['case']
    with torch.device('meta'):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder/'unet'))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder/'vae'))
        config = CLIPTextConfig.from_pretrained(folder/'text_encoder')
        text_encoder = CLIPTextModel._from_config(config, attn_implementation='eager')
    for part in (unet, vae): part.set_attn_processor(AttnProcessor())  # plain products, which the counter knows
    size, tokens = RESOLUTION//2**(len(vae.config.block_out_channels) - 1), config.max_position_embeddings
    def count(compute):
        with FlopCounterMode(display=False) as counter: compute()
        return counter.get_total_flops()
    def text(prompts):
        ids = torch.zeros(prompts, tokens, dtype=torch.long, device='meta')
        with torch.set_grad_enabled(learns): return text_encoder(ids)[0]
    def step(prompts):
        states = text(prompts).repeat_interleave(samples//prompts, 0)
        latents, timesteps = torch.empty(samples, 4, size, size, device='meta'), torch.zeros(samples, device='meta')
        unet(latents, timesteps, states).sample.sum().backward()
    def encode():
        with torch.no_grad(): vae.encode(torch.empty(samples, 3, RESOLUTION, RESOLUTION, device='meta'))
    frozen = 0 if learns else count(lambda: text(2))
    return dict(needed=count(lambda: step(2)) - frozen, plain=count(lambda: step(samples)) + count(encode))

def machine(job:dict)->dict:
    "Return where and with which versions this was measured."
    import torch
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    name = next((line.split(': ')[1] for line in lines if line.startswith('model name')), platform.processor())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'{name}, {torch.get_num_threads()} threads'
    versions = {name: version(name) for name in ('torch', 'diffusers', 'transformers', 'lightning')}
    return dict(device=device, rate=matmul_rate(), python=platform.python_version(), **versions)


# ---- one command that runs them all

def child(task:str, threads:int|None, **job)->dict: # what the task returns
    "Do a task of this file in a fresh process."
    environment = os.environ | dict(TOKENIZERS_PARALLELISM='false')
    if threads: environment |= dict(OMP_NUM_THREADS=str(threads))
    with tempfile.TemporaryDirectory(dir=job.get('folder')) as folder:
        job |= dict(output=f'{folder}/output')
        order = json.dumps(dict(task=task, answer=f'{folder}/answer.json', **job))
        done = subprocess.run([sys.executable, __file__, '--child', order], env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            who = f'{task} {job.get("contestant", "")}'
            sys.exit(f'{done.stdout[-3000:]}\n{who} failed with status {done.returncode}')
        return json.loads(Path(folder, 'answer.json').read_text())

def run_child(task:str, answer:str, **job)->None:
    "Do what `child` asked for, and write the answer."
    tasks = dict(prepare=lambda job: prepare(job['model'], job['folder']), measure=measure, step_flops=step_flops,
                 machine=machine)
    Path(answer).write_text(json.dumps(tasks[task](job)))

def table(
    rows:list[dict],    # one per model, case, round and contestant
    where:dict,         # from `machine`
)->str: # Markdown
    "Show the median over the rounds, and each figure in relation to the first contestant's and diffusers'."
    rivals = [k for k in 'AC' if any(r['contestant'] == k for r in rows)]
    head = ['model, trained', 'contestant', 'steps/s', 'CPU s/step', 'peak GB training', 'peak GB in all']
    head += [f'{what} vs {k}' for k in rivals for what in ('speed', 'memory')] + ['share of matmul rate']
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|'*len(head)]
    for model, case in dict.fromkeys((r['model'], r['case']) for r in rows):
        of_case = [r for r in rows if (r['model'], r['case']) == (model, case)]
        groups = {k: medians([r for r in of_case if r['contestant'] == k]) for k in CONTESTANTS}
        for k, ours in groups.items():
            if not ours: continue
            cells = [f'{MODELS[model]}, {CASES[case]}', f'{k} {CONTESTANTS[k]}', f"{1/ours['seconds']:.3g}",
                     f"{ours['cpu_seconds']:.3g}", f"{ours['peak_training']:.2f}", f"{ours['peak']:.2f}"]
            for other in (groups[rival] for rival in rivals):
                cells.append(f"{other['seconds']/ours['seconds']:.2f}x" if other else '')
                cells.append(f"{ours['peak']/other['peak']:.2f}" if other else '')
            cells.append(f"{ours['needed']/ours['seconds']/where['rate']:.0%}")
            lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)

def medians(rows):
    "Return the medians over the rounds; {} without rows."
    keys = ('seconds', 'cpu_seconds', 'peak_training', 'peak', 'needed') if rows else ()
    return {key: statistics.median(row[key] for row in rows) for key in keys}

def report(rows:list[dict], where:dict, batch:int)->str: # Markdown
    "Put the conditions under the table."
    steps = {MODELS[r['model']]: f"{r['steps']} steps, the first {r['warmup']} + 1 not counted" for r in rows}
    def gflop(r): return f"{r['needed']/1e9:.1f} GFLOP (the plain loop computes {r['plain']/1e9:.1f})"
    flops = {f"{MODELS[r['model']]}, {CASES[r['case']]}": gflop(r) for r in rows}
    packages = 'python', 'torch', 'diffusers', 'transformers', 'lightning'
    versions = ', '.join(f'{name} {where[name]}' for name in packages)
    join = lambda notes: '; '.join(f'{k}: {v}' for k, v in notes.items())
    return f"""{table(rows, where)}

- {where['device']}; fp32 matrix products reach {where['rate']/1e9:.0f} GFLOP/s. {versions}.
- {RESOLUTION}x{RESOLUTION} pixels, {batch} instance + {batch} class samples per step, fp32, AdamW, gradient norm
  clipped at 1.
- {join(steps)}. {max(r['round'] for r in rows) + 1} rounds in turn; medians over steps, then over rounds.
- Needed per step: {join(flops)}.
"""

def chosen(choice, among): return list(among) if choice == 'both' else [choice]

def runs(arguments, order):
    "Measure one contestant after the other; yield a row for each."
    for model in chosen(arguments.model, MODELS):
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            child('prepare', None, model=model, folder=folder)
            for case in chosen(arguments.case, CASES):
                job = dict(
                    folder=folder, case=case, batch=arguments.batch, steps=arguments.steps or STEPS[model],
                    warmup=arguments.warmup, compile=arguments.torch_compile, script=arguments.diffusers_script)
                row = dict(model=model, case=case, steps=job['steps'], warmup=job['warmup'])
                row |= child('step_flops', None, **job)
                for number in range(arguments.rounds):
                    for contestant in order:
                        measured = child('measure', arguments.threads, contestant=contestant, **job)
                        yield row | dict(round=number, contestant=contestant) | measured

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--model', choices=[*MODELS, 'both'], default='both',
                        help='sd15 needs 18 GB of memory and 9 GB of disk')
    parser.add_argument('--case', choices=[*CASES, 'both'], default='both', help='what is trained')
    parser.add_argument('--contestants', default='AB',
                        help='in the order of each round: A plain loop, B this package, C diffusers')
    parser.add_argument('--diffusers_script',
                        help='train_dreambooth.py of a diffusers checkout; adds contestant C (needs torchvision)')
    parser.add_argument('--steps', type=int, help=f'optimiser steps of each run, warm-up included (default: {STEPS})')
    parser.add_argument('--warmup', type=int, default=2, help='steps before the clock starts')
    parser.add_argument('--batch', type=int, default=4, help='instance samples per step, and as many class samples')
    parser.add_argument('--rounds', type=int, default=2, help='how often each contestant runs')
    parser.add_argument('--threads', type=int, help="of each process; torch's choice if left out")
    parser.add_argument('--torch_compile', action='store_true', help='compile our UNet')
    parser.add_argument('--scratch', help='folder for the models and outputs, emptied afterwards')
    parser.add_argument('--output', help='write the table here too; the single runs go next to it as .json')
    arguments = parser.parse_args()
    order = arguments.contestants + ('C' if arguments.diffusers_script and 'C' not in arguments.contestants else '')
    if 'C' in order and not Path(arguments.diffusers_script or '').is_file():
        parser.error('contestant C needs --diffusers_script=PATH of train_dreambooth.py')
    rows, where = [], child('machine', arguments.threads)
    for row in runs(arguments, order):
        rows.append(row)
        print(f"{row['model']}, {row['case']}, round {row['round'] + 1}, {row['contestant']}: "
              f"{row['seconds']:.3g} s/step, {row['cpu_seconds']:.3g} CPU s/step, "
              f"peak {row['peak_training']:.2f} GB training, {row['peak']:.2f} GB in all", file=sys.stderr, flush=True)
        if not arguments.output: continue
        Path(arguments.output).with_suffix('.json').write_text(json.dumps(dict(where=where, rows=rows), indent=1))
    text = report(rows, where, arguments.batch)
    print(text)
    if arguments.output: Path(arguments.output).write_text(text, encoding='utf-8')

if __name__ == '__main__':
    if sys.argv[1:2] == ['--child']: run_child(**json.loads(sys.argv[2]))
    else: main()
