"""Who is compared: each trains the same model on the same images, in a process of its own.

A contestant takes a job: folder (from `materials.prepare`), output, case, batch, steps, resolution, precision
('same': fp32; 'default': its own choice; 'bf16'), compile (the UNet). `measure` runs one and looks at clock and memory
whenever the optimiser has done a step.
"""
import os
import resource
import runpy
import statistics
import sys
import time
from pathlib import Path

CONTESTANTS = {'A': 'plain loop', 'B': 'dreambooth_nb', 'C': 'train_dreambooth.py of diffusers',
               'U': 'diffusers, the UNet alone'}
CASES = {'unet': 'UNet', 'unet+text_encoder': 'UNet + text encoder'}
INSTANCE_PROMPT, CLASS_PROMPT, LEARNING_RATE = 'a photo of sks dog', 'a photo of a dog', 5e-6


# ---- A: what the method needs, written down without a thought of speed

def plain_loop(job):
    "Train: images, VAE and text encoder on the whole batch in every step."
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from torch.nn.functional import mse_loss
    from transformers import AutoTokenizer, CLIPTextModel
    folder, device, learns = Path(job['folder'])/'model', best_device(), 'text_encoder' in job['case']
    tokenizer = AutoTokenizer.from_pretrained(folder/'tokenizer')
    noise_scheduler = DDPMScheduler.from_pretrained(folder/'scheduler')
    unet = UNet2DConditionModel.from_pretrained(folder/'unet').to(device).train()
    vae = AutoencoderKL.from_pretrained(folder/'vae').to(device).requires_grad_(False)
    text_encoder = CLIPTextModel.from_pretrained(folder/'text_encoder').to(device)
    text_encoder.requires_grad_(learns).train(learns)
    if job['compile']: unet.compile()
    trained = [p for part in (unet, text_encoder) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    is_v = noise_scheduler.config.prediction_type == 'v_prediction'
    for pixels, ids in batches(job, tokenizer):
        # instance samples first, then class samples
        pixels, ids = (x.transpose(0, 1).flatten(0, 1).to(device) for x in (pixels, ids))
        with mixed_bf16(job, device):
            with torch.no_grad(): latents = vae.encode(pixels).latent_dist.sample()*vae.config.scaling_factor
            noise, timesteps = torch.randn_like(latents), torch.randint(1000, (len(latents),), device=device)
            noisy_latents = noise_scheduler.add_noise(latents, noise, timesteps)
            model_pred = unet(noisy_latents, timesteps, text_encoder(ids)[0]).sample.float()
        target = noise_scheduler.get_velocity(latents, noise, timesteps) if is_v else noise
        loss = sum(mse_loss(*parts) for parts in zip(model_pred.chunk(2), target.chunk(2)))  # instance + 1.0*prior
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    pipeline = StableDiffusionPipeline(vae, text_encoder.eval(), tokenizer, unet.eval(), noise_scheduler, None, None,
                                       requires_safety_checker=False)
    pipeline.save_pretrained(job['output'])

def batches(job, tokenizer):
    "Yield the pixels and token ids of each step: (b, 2, ...), an instance sample and a class sample."
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

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

    loader, step = DataLoader(Pairs(), batch_size=job['batch'], shuffle=True, drop_last=True), 0
    while True:
        for batch in loader:
            yield batch
            if (step := step + 1) == job['steps']: return

def best_device():
    import torch
    return 'cuda' if torch.cuda.is_available() else 'cpu'

def mixed_bf16(job, device):
    import torch
    return torch.autocast(device, torch.bfloat16, enabled=job['precision'] == 'bf16')


# ---- B, C, and a bare UNet

def our_engine(job):
    "Train with `train` of this package; job['settings'] are further settings of it."
    from dreambooth_nb import Subject, train
    folder = Path(job['folder'])
    subject = Subject(folder/'instance', class_noun='dog', identifier='sks', instance_prompt=INSTANCE_PROMPT,
                      class_prompt=CLASS_PROMPT)
    settings = dict(same=dict(mixed_precision='no'), default={}, bf16=dict(mixed_precision='bf16'))[job['precision']]
    train(subject, folder/'model', job['output'], trainable=job['case'], with_prior_preservation=True,
          class_data_dir=folder/'class', num_class_images=len(list((folder/'class').iterdir())),
          resolution=job['resolution'], train_batch_size=job['batch'], max_train_steps=job['steps'],
          learning_rate=LEARNING_RATE, torch_compile=job['compile'], progress=False,
          **settings, **(job.get('settings') or {}))

def diffusers_script(job):
    "Train with the script as it is; only its arguments are ours."
    folder, precision = Path(job['folder']), dict(same='no', bf16='bf16').get(job['precision'])
    settings = dict(
        pretrained_model_name_or_path=folder/'model', instance_data_dir=folder/'instance',
        class_data_dir=folder/'class', output_dir=job['output'],
        instance_prompt=INSTANCE_PROMPT, class_prompt=CLASS_PROMPT,
        num_class_images=len(list((folder/'class').iterdir())), resolution=job['resolution'],
        train_batch_size=job['batch'], max_train_steps=job['steps'], learning_rate=LEARNING_RATE,
        lr_scheduler='constant', seed=0)
    if precision: settings['mixed_precision'] = precision
    if job['compile']: os.environ['ACCELERATE_DYNAMO_BACKEND'] = 'INDUCTOR'    # as `accelerate launch` would
    sys.argv = [job['script'], '--with_prior_preservation', *(f'--{name}={value}' for name, value in settings.items())]
    if 'text_encoder' in job['case']: sys.argv.append('--train_text_encoder')
    runpy.run_path(job['script'], run_name='__main__')

def bare_unet(job):
    "Train a UNet of a given size on latents and prompts that are given: what no way of training can do without."
    import torch
    from diffusers import UNet2DConditionModel
    from materials import UNETS, unet_inputs, with_random_weights
    from torch.nn.functional import mse_loss
    device = best_device()
    with torch.device('meta'): unet = UNet2DConditionModel(**UNETS[job['model']])
    unet = with_random_weights(unet, device).train()
    if job['compile']: unet.compile()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LEARNING_RATE, fused=True)
    inputs = unet_inputs(unet, 2*job['batch'], job['resolution']//8, 77, device)
    for _ in range(job['steps']):
        with mixed_bf16(job, device): model_pred = unet(**inputs).sample.float()
        mse_loss(model_pred, torch.randn_like(model_pred)).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.)
        optimizer.step()
        optimizer.zero_grad()

RUN = dict(A=plain_loop, B=our_engine, C=diffusers_script, U=bare_unet)


# ---- what is measured

def peak_memory()->float: # GB
    "Return the most memory that this process has had so far."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*(1 if sys.platform == 'darwin' else 1024)/1e9

def note_precision():
    "Return a list that gets 'fp32', 'bf16' or 'fp16' when a UNet computes for the first time."
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook
    seen, names = [], {torch.float32: 'fp32', torch.bfloat16: 'bf16', torch.float16: 'fp16'}
    def look(module, _):
        if type(module).__name__ not in ('UNet2DConditionModel', 'OptimizedModule'): return
        weight = next(module.parameters())
        kind = weight.device.type
        if kind == 'meta': return   # somebody compares shapes
        handle.remove()
        seen.append(names[torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype])
    handle = register_module_forward_pre_hook(look)
    return seen

def measure(
    job:dict, # contestant, warmup, and what the contestant takes
)->dict: # seconds per step and to the first step, by the clock and of CPU; peak memory at the last step and at the end
    "Run one contestant in this process."
    from torch import cuda
    from torch.optim.optimizer import register_optimizer_step_post_hook
    marks, computed_in = [], dict(same=['fp32'], bf16=['bf16']).get(job['precision']) or note_precision()
    def look(*_):
        if cuda.is_available(): cuda.synchronize()
        marks.append((time.perf_counter(), time.process_time(), peak_memory(), time.time() - job['started']))
    register_optimizer_step_post_hook(look)
    RUN[job['contestant']](job)
    if len(marks) != job['steps']:
        raise RuntimeError(f"{len(marks)} optimiser steps were seen, {job['steps']} were asked for")
    after = marks[job['warmup']:]
    wall, cpu = ([b[i] - a[i] for a, b in zip(after, after[1:])] for i in (0, 1))
    return dict(
        seconds=statistics.median(wall), spread=[min(wall), max(wall)], cpu_seconds=statistics.median(cpu),
        to_first_step=marks[0][3], cpu_to_first_step=marks[0][1], computed_in=computed_in[0],
        peak_training=marks[-1][2], peak=peak_memory(),
        peak_gpu=cuda.max_memory_allocated()/1e9 if cuda.is_available() else None)
