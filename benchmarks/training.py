"""Training speed and memory of this package against a plain loop, and against diffusers' own script.

    python benchmarks/training.py --output results.md
    python benchmarks/training.py --model sd15 --steps 8 --diffusers_script path/to/train_dreambooth.py

All contestants train the same model on the same pictures, with the same batch, loss, AdamW, clipping and precision (fp32),
each in a fresh process of its own, in the order A B A B. README.md beside this file says what is compared.
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

# torch is imported by the processes that measure, never by the one that starts them: a child's peak memory begins at its parent's
CONTESTANTS = {'A': 'plain loop', 'B': 'dreambooth_nb', 'C': 'train_dreambooth.py of diffusers'}
MODELS = {'toyland': 'the embedded model', 'sd15': "Stable Diffusion 1.5's sizes"}
CASES = {'unet': 'UNet', 'unet+text_encoder': 'UNet + text encoder'}
STEPS = {'toyland': 60, 'sd15': 10}
INSTANCE_PROMPT, CLASS_PROMPT, RESOLUTION, LEARNING_RATE = 'a photo of sks dog', 'a photo of a dog', 64, 5e-6


# ---- the material: a pipeline folder and two folders of pictures

def stable_diffusion_parts()->dict: # name -> module without weights, on the 'meta' device
    "Give Stable Diffusion 1.5's parts by their configuration."
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    with torch.device('meta'):
        return dict(unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
                    vae=AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
                                      down_block_types=('DownEncoderBlock2D',)*4, up_block_types=('UpDecoderBlock2D',)*4),
                    text_encoder=CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                                              num_attention_heads=12, projection_dim=768)))

def with_random_weights(part):
    "Put a module on the CPU, its weights as PyTorch's own on average, but cut from one block of random numbers: a billion in seconds."
    import torch
    part, block = part.to_empty(device='cpu'), torch.empty(2**20 + 7).uniform_(-1, 1)
    for name, weight in part.named_parameters():
        flat = weight.data.view(-1)
        if weight.ndim < 2: flat.fill_(float('norm' in name and name.endswith('weight')))
        else:
            for start in range(0, len(flat), len(block)): flat[start:start + len(block)] = block[:len(flat) - start]/weight[0].numel()**.5
    return part.eval()

def prepare(
    model:str,  # 'toyland' or 'sd15'
    folder:str, # gets model/, instance/ and class/
)->None:
    "Write what all contestants open; class pictures are soft colours, since speed does not depend on what they show."
    import numpy as np
    from dreambooth_nb.opening import load_pipeline
    from dreambooth_nb.subject import Subject
    from diffusers import StableDiffusionPipeline
    from PIL import Image
    folder, rng = Path(folder), np.random.default_rng(0)
    for part in ('instance', 'class'): (folder/part).mkdir(parents=True)
    for i, image in enumerate(Subject.toyland('teal_dog').images): image.resize((RESOLUTION, RESOLUTION)).save(folder/'instance'/f'{i}.png')
    for i in range(16): Image.fromarray(rng.integers(0, 256, (4, 4, 3), 'uint8')).resize((RESOLUTION, RESOLUTION), Image.BICUBIC).save(folder/'class'/f'{i:02}.png')
    pipeline = load_pipeline('toyland', device='cpu')
    if model == 'sd15':
        pipeline.tokenizer.model_max_length = 77
        parts = {name: with_random_weights(part) for name, part in stable_diffusion_parts().items()}
        pipeline = StableDiffusionPipeline(**(pipeline.components | parts), requires_safety_checker=False)
    pipeline.save_pretrained(folder/'model')


# ---- the contestants: each runs in a process of its own, and a hook on the optimiser's steps looks at clock and memory

def plain_loop(job):
    "A: what the method needs, written down without a thought of speed."
    import numpy as np
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from PIL import Image
    from torch.nn.functional import mse_loss
    from torch.utils.data import DataLoader, Dataset
    from transformers import AutoTokenizer, CLIPTextModel

    folder, device = Path(job['folder'])/'model', 'cuda' if torch.cuda.is_available() else 'cpu'
    tokenizer, noise_scheduler = AutoTokenizer.from_pretrained(folder/'tokenizer'), DDPMScheduler.from_pretrained(folder/'scheduler')
    unet, vae = (kind.from_pretrained(folder/part).to(device) for kind, part in ((UNet2DConditionModel, 'unet'), (AutoencoderKL, 'vae')))
    text_encoder = CLIPTextModel.from_pretrained(folder/'text_encoder').to(device)
    vae.requires_grad_(False)
    text_encoder.requires_grad_('text_encoder' in job['case']).train('text_encoder' in job['case'])
    unet.train()

    class Pairs(Dataset):
        "Instance picture i and class picture i, opened when asked for."
        def __init__(self): self.paths = [sorted((Path(job['folder'])/part).iterdir()) for part in ('instance', 'class')]
        def __len__(self): return max(map(len, self.paths))
        def __getitem__(self, i):
            images = [Image.open(paths[i % len(paths)]).convert('RGB') for paths in self.paths]
            ids = tokenizer([INSTANCE_PROMPT, CLASS_PROMPT], padding='max_length', truncation=True, return_tensors='pt').input_ids
            return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1)/127.5 - 1 for image in images]), ids

    loader = DataLoader(Pairs(), batch_size=job['batch'], shuffle=True, drop_last=True)
    trained = [p for part in (unet, text_encoder) for p in part.parameters() if p.requires_grad]
    optimizer, step = torch.optim.AdamW(trained, lr=LEARNING_RATE), 0
    while step < job['steps']:
        for pixels, ids in loader:
            pixels, ids = (x.transpose(0, 1).flatten(0, 1).to(device) for x in (pixels, ids))  # instance samples first, then class samples
            with torch.no_grad(): latents = vae.encode(pixels).latent_dist.sample()*vae.config.scaling_factor
            noise, timesteps = torch.randn_like(latents), torch.randint(1000, (len(latents),), device=device)
            noisy_latents = noise_scheduler.add_noise(latents, noise, timesteps)
            model_pred = unet(noisy_latents, timesteps, text_encoder(ids)[0]).sample
            target = noise_scheduler.get_velocity(latents, noise, timesteps) if noise_scheduler.config.prediction_type == 'v_prediction' else noise
            loss = sum(mse_loss(*parts) for parts in zip(model_pred.chunk(2), target.chunk(2)))  # instance + 1.0*prior
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            if (step := step + 1) == job['steps']: break
    StableDiffusionPipeline(vae, text_encoder.eval(), tokenizer, unet.eval(), noise_scheduler, None, None, requires_safety_checker=False).save_pretrained(job['output'])

def our_engine(job):
    "B: `train` of this package."
    from dreambooth_nb import Subject, train
    folder = Path(job['folder'])
    subject = Subject(folder/'instance', class_noun='dog', identifier='sks', instance_prompt=INSTANCE_PROMPT, class_prompt=CLASS_PROMPT)
    train(subject, folder/'model', job['output'], trainable=job['case'], with_prior_preservation=True, class_data_dir=folder/'class', num_class_images=16,
          resolution=RESOLUTION, train_batch_size=job['batch'], max_train_steps=job['steps'], learning_rate=LEARNING_RATE, mixed_precision='no',
          torch_compile=job['compile'], progress=False)

def diffusers_script(job):
    "C: the script as it is; only its arguments are ours."
    folder = Path(job['folder'])
    sys.argv = [job['script'], f'--pretrained_model_name_or_path={folder/"model"}', f'--instance_data_dir={folder/"instance"}', f'--class_data_dir={folder/"class"}',
                f'--output_dir={job["output"]}', f'--instance_prompt={INSTANCE_PROMPT}', f'--class_prompt={CLASS_PROMPT}', '--with_prior_preservation',
                '--num_class_images=16', f'--resolution={RESOLUTION}', f'--train_batch_size={job["batch"]}', f'--max_train_steps={job["steps"]}',
                f'--learning_rate={LEARNING_RATE}', '--lr_scheduler=constant', '--mixed_precision=no', '--seed=0']
    if 'text_encoder' in job['case']: sys.argv.append('--train_text_encoder')
    runpy.run_path(job['script'], run_name='__main__')

def peak_memory()->float: # GB
    "The most memory that this process has had so far."
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
    if len(marks) != job['steps']: raise RuntimeError(f"{len(marks)} optimiser steps were seen, {job['steps']} were asked for")
    wall, cpu = ([b[i] - a[i] for a, b in zip(marks[job['warmup']:], marks[job['warmup'] + 1:])] for i in (0, 1))
    return dict(seconds=statistics.median(wall), spread=[min(wall), max(wall)], cpu_seconds=statistics.median(cpu), peak_training=marks[-1][2], peak=peak_memory(),
                peak_gpu=cuda.max_memory_allocated()/1e9 if cuda.is_available() else None)


# ---- what a step has to compute, and what the machine could

def matmul_rate(size:int=2048, repeats:int=12)->float: # FLOP/s
    "Time fp32 products of square matrices: torch.mm, and oneDNN's where it is there (much the faster on AMD); the fastest counts."
    import torch
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    a, b, seconds = torch.randn(size, size, device=device), torch.randn(size, size, device=device), []
    products = [lambda: a @ b]
    if device == 'cpu' and torch.backends.mkldnn.is_available(): products.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, 'none', [], ''))
    for product in products*repeats:
        start = time.perf_counter()
        product()[0, 0].item()
        seconds.append(time.perf_counter() - start)
    return 2*size**3/min(seconds)

def step_flops(job:dict)->dict: # FLOPs of one step: 'needed' by the loss, and by a 'plain' loop that encodes everything anew
    "Count products and convolutions, forward and backward, without computing them (on the 'meta' device)."
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import CLIPTextConfig, CLIPTextModel
    folder, samples, learns = Path(job['folder'])/'model', 2*job['batch'], 'text_encoder' in job['case']
    with torch.device('meta'):
        unet, vae = (kind.from_config(kind.load_config(folder/part)) for kind, part in ((UNet2DConditionModel, 'unet'), (AutoencoderKL, 'vae')))
        text_encoder = CLIPTextModel._from_config(CLIPTextConfig.from_pretrained(folder/'text_encoder'), attn_implementation='eager')
    for part in (unet, vae): part.set_attn_processor(AttnProcessor())  # plain products, which the counter knows
    size, tokens = RESOLUTION//2**(len(vae.config.block_out_channels) - 1), text_encoder.config.max_position_embeddings
    def count(compute):
        with FlopCounterMode(display=False) as counter: compute()
        return counter.get_total_flops()
    def text(prompts):
        with torch.set_grad_enabled(learns): return text_encoder(torch.zeros(prompts, tokens, dtype=torch.long, device='meta'))[0]
    def step(prompts):
        states = text(prompts).repeat_interleave(samples//prompts, 0)
        unet(torch.empty(samples, 4, size, size, device='meta'), torch.zeros(samples, device='meta'), states).sample.sum().backward()
    def encode():
        with torch.no_grad(): vae.encode(torch.empty(samples, 3, RESOLUTION, RESOLUTION, device='meta'))
    return dict(needed=count(lambda: step(2)) - (0 if learns else count(lambda: text(2))), plain=count(lambda: step(samples)) + count(encode))

def machine(job:dict)->dict:
    "Say where and with which versions this was measured."
    import torch
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    name = next((line.split(': ')[1] for line in lines if line.startswith('model name')), platform.processor())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'{name}, {torch.get_num_threads()} threads'
    return dict(device=device, rate=matmul_rate(), python=platform.python_version(), **{p: version(p) for p in ('torch', 'diffusers', 'transformers', 'lightning')})


# ---- one command that runs them all

def child(task:str, threads:int|None, **job)->dict: # what the task returns
    "Do a task of this file in a fresh process."
    environment = os.environ | dict(TOKENIZERS_PARALLELISM='false') | (dict(OMP_NUM_THREADS=str(threads)) if threads else {})
    with tempfile.TemporaryDirectory(dir=job.get('folder')) as folder:
        job |= dict(output=f'{folder}/output')
        command = [sys.executable, __file__, '--child', json.dumps(dict(task=task, answer=f'{folder}/answer.json', **job))]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode: sys.exit(f'{done.stdout[-3000:]}\n{task} {job.get("contestant", "")} failed with status {done.returncode}')
        return json.loads(Path(folder, 'answer.json').read_text())

def run_child(task:str, answer:str, **job)->None:
    "The other end of `child`."
    result = dict(prepare=lambda job: prepare(job['model'], job['folder']), measure=measure, step_flops=step_flops, machine=machine)[task](job)
    Path(answer).write_text(json.dumps(result))

def table(
    rows:list[dict],    # one per model, case, round and contestant
    where:dict,         # from `machine`
)->str: # Markdown
    "Show the median over the rounds, and each figure in relation to the first contestant's and diffusers'."
    rivals = [k for k in 'AC' if any(r['contestant'] == k for r in rows)]
    head = ['model, trained', 'contestant', 'steps/s', 'CPU s/step', 'peak GB training', 'peak GB in all', *(f'{what} vs {k}' for k in rivals for what in ('speed', 'memory')), 'share of matmul rate']
    text = ['| ' + ' | '.join(head) + ' |', '|' + '---|'*len(head)]
    mid = lambda group, key: statistics.median(r[key] for r in group)
    for model, case in dict.fromkeys((r['model'], r['case']) for r in rows):
        groups = {k: [r for r in rows if (r['model'], r['case'], r['contestant']) == (model, case, k)] for k in CONTESTANTS}
        for k, group in groups.items():
            if not group: continue
            cells = [f'{MODELS[model]}, {CASES[case]}', f'{k} {CONTESTANTS[k]}', f"{1/mid(group, 'seconds'):.3g}", f"{mid(group, 'cpu_seconds'):.3g}",
                     f"{mid(group, 'peak_training'):.2f}", f"{mid(group, 'peak'):.2f}"]
            for other in (groups[k] for k in rivals):
                cells += [f"{mid(other, 'seconds')/mid(group, 'seconds'):.2f}x", f"{mid(group, 'peak')/mid(other, 'peak'):.2f}"] if other else ['', '']
            text.append('| ' + ' | '.join([*cells, f"{group[0]['needed']/mid(group, 'seconds')/where['rate']:.0%}"]) + ' |')
    return '\n'.join(text)

def report(rows:list[dict], where:dict, batch:int)->str: # Markdown
    "Put the conditions under the table."
    steps = {MODELS[r['model']]: f"{r['steps']} steps, the first {r['warmup']} + 1 not counted" for r in rows}
    flops = {f"{MODELS[r['model']]}, {CASES[r['case']]}": f"{r['needed']/1e9:.1f} GFLOP (the plain loop computes {r['plain']/1e9:.1f})" for r in rows}
    versions = ', '.join(f'{name} {where[name]}' for name in ('python', 'torch', 'diffusers', 'transformers', 'lightning'))
    join = lambda notes: '; '.join(f'{k}: {v}' for k, v in notes.items())
    return f"""{table(rows, where)}

- {where['device']}; fp32 matrix products reach {where['rate']/1e9:.0f} GFLOP/s. {versions}.
- {RESOLUTION}x{RESOLUTION} pixels, {batch} instance + {batch} class samples per step, fp32, AdamW, gradient norm clipped at 1.
- {join(steps)}. {max(r['round'] for r in rows) + 1} rounds in turn; medians over steps, then over rounds.
- Needed per step: {join(flops)}.
"""

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--model', choices=[*MODELS, 'both'], default='both', help='sd15 needs 18 GB of memory and 9 GB of disk')
    parser.add_argument('--case', choices=[*CASES, 'both'], default='both', help='what is trained')
    parser.add_argument('--contestants', default='AB', help='in the order of each round: A plain loop, B this package, C diffusers')
    parser.add_argument('--diffusers_script', help="train_dreambooth.py of a diffusers checkout; adds contestant C (needs torchvision)")
    parser.add_argument('--steps', type=int, help=f'optimiser steps of each run, warm-up included (default: {STEPS})')
    parser.add_argument('--warmup', type=int, default=2, help='steps before the clock starts')
    parser.add_argument('--batch', type=int, default=4, help='instance samples per step, and as many class samples')
    parser.add_argument('--rounds', type=int, default=2, help='how often each contestant runs')
    parser.add_argument('--threads', type=int, help="of each process; torch's choice if left out")
    parser.add_argument('--torch_compile', action='store_true', help='compile our UNet')
    parser.add_argument('--scratch', help='folder for the models and outputs, emptied afterwards')
    parser.add_argument('--output', help='write the table here too; the single runs go beside it as .json')
    arguments = parser.parse_args()
    order = arguments.contestants + ('C' if arguments.diffusers_script and 'C' not in arguments.contestants else '')
    if 'C' in order and not Path(arguments.diffusers_script or '').is_file(): parser.error('contestant C needs --diffusers_script=PATH of train_dreambooth.py')
    pick = lambda choice, among: list(among) if choice == 'both' else [choice]
    rows, where = [], child('machine', arguments.threads)
    for model in pick(arguments.model, MODELS):
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            child('prepare', None, model=model, folder=folder)
            for case in pick(arguments.case, CASES):
                job = dict(folder=folder, case=case, batch=arguments.batch, steps=arguments.steps or STEPS[model], warmup=arguments.warmup,
                           compile=arguments.torch_compile, script=arguments.diffusers_script)
                flops = child('step_flops', None, **job)
                for number in range(arguments.rounds):
                    for contestant in order:
                        result = child('measure', arguments.threads, contestant=contestant, **job)
                        rows.append(dict(model=model, case=case, round=number, contestant=contestant, steps=job['steps'], warmup=job['warmup'], **flops, **result))
                        print(f"{model}, {case}, round {number + 1}, {contestant}: {result['seconds']:.3g} s/step, {result['cpu_seconds']:.3g} CPU s/step, "
                              f"peak {result['peak_training']:.2f} GB training, {result['peak']:.2f} GB in all", file=sys.stderr, flush=True)
                        if arguments.output: Path(arguments.output).with_suffix('.json').write_text(json.dumps(dict(where=where, rows=rows), indent=1))
    text = report(rows, where, arguments.batch)
    print(text)
    if arguments.output: Path(arguments.output).write_text(text, encoding='utf-8')

if __name__ == '__main__':
    if sys.argv[1:2] == ['--child']: run_child(**json.loads(sys.argv[2]))
    else: main()
