"""The models and images that the benchmarks train on, what a step has to compute, and what the machine could."""
import platform
import time
from importlib.metadata import version
from pathlib import Path

MODELS = {
    'toyland': 'the embedded model',
    'small': 'a small model in the proportions of Stable Diffusion',
    'sd15': "Stable Diffusion 1.5's sizes",
    'sdxl': "Stable Diffusion XL's sizes",
    'toy-sd15': "Stable Diffusion 1.5's form, toy size",
    'toy-sdxl': "Stable Diffusion XL's form, toy size"}
PIXELS = {'toyland': 64, 'small': 64, 'sd15': 64}   # what `training.py` trains at, on a CPU
LEVELS = dict(down_block_types=('CrossAttnDownBlock2D',)*2, up_block_types=('CrossAttnUpBlock2D',)*2)
ENCODER = dict(layers_per_block=2, down_block_types=('DownEncoderBlock2D',)*3, up_block_types=('UpDecoderBlock2D',)*3)
ENCODER_SD = ENCODER | dict(down_block_types=('DownEncoderBlock2D',)*4, up_block_types=('UpDecoderBlock2D',)*4)
LEVELS_XL = dict(down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'),
                 up_block_types=('CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'))
TEXT_AND_SIZES = dict(use_linear_projection=True, addition_embed_type='text_time')

# the arguments of diffusers' and transformers' classes; a tokenizer pads to 77 or to the embedded model's 24 tokens
UNETS = {
    'small': dict(sample_size=16, block_out_channels=(56, 112), cross_attention_dim=128, attention_head_dim=(2, 4),
                  norm_num_groups=8, **LEVELS),
    'sd15': dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
    'sdxl': dict(sample_size=128, block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10),
                 attention_head_dim=(5, 10, 20), cross_attention_dim=2048, addition_time_embed_dim=256,
                 projection_class_embeddings_input_dim=2816, **LEVELS_XL, **TEXT_AND_SIZES),
    'toy-sd15': dict(sample_size=8, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=64,
                     attention_head_dim=2, norm_num_groups=8, **LEVELS),
    'toy-sdxl': dict(sample_size=8, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=64,
                     transformer_layers_per_block=(1, 2), attention_head_dim=(1, 2), norm_num_groups=8,
                     addition_time_embed_dim=8, projection_class_embeddings_input_dim=112, **LEVELS, **TEXT_AND_SIZES)}
VAES = {
    'small': dict(block_out_channels=(64, 128, 128), sample_size=64, norm_num_groups=8, **ENCODER),
    'sd15': dict(block_out_channels=(128, 256, 512, 512), sample_size=512, **ENCODER_SD),
    'toy-sd15': dict(block_out_channels=(8, 16, 32, 32), sample_size=64, norm_num_groups=8, **ENCODER_SD)}
TEXT_ENCODERS = {
    'small': dict(vocab_size=692, hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
                  projection_dim=128, max_position_embeddings=24, bos_token_id=690, eos_token_id=691, pad_token_id=691),
    'sd15': dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                 projection_dim=768),
    'toy-sd15': dict(vocab_size=692, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
                     projection_dim=64, bos_token_id=690, eos_token_id=691, pad_token_id=691)}


# ---- networks with random weights

def empty_parts(
    model:str, # a key of VAES
)->dict: # name -> module without weights, on the 'meta' device
    "Return a pipeline's networks by their configuration."
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    with torch.device('meta'):
        return dict(
            unet=UNet2DConditionModel(**UNETS[model]), vae=AutoencoderKL(**VAES[model]),
            text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT_ENCODERS[model])))

def with_random_weights(part, device='cpu'):
    "Give a module weights cut from one block of random numbers: a billion in seconds."
    import torch
    part, block = part.to_empty(device=device), torch.empty(2**20 + 7, device=device).uniform_(-1, 1)
    for name, weight in part.named_parameters():
        flat = weight.data.view(-1)
        if weight.ndim < 2: flat.fill_(float('norm' in name and name.endswith('weight')))
        else:
            scaled = block/weight[0].numel()**.5    # as PyTorch's own on average
            for start in range(0, len(flat), len(block)): flat[start:start + len(block)] = scaled[:len(flat) - start]
    return part.eval()


# ---- a pipeline folder and two folders of images

def prepare(
    job:dict, # model; folder gets model/, instance/ and class/; resolution, num_photos, num_class_images
)->None:
    "Write what all contestants open; the images are soft colours, since speed does not depend on them."
    from dreambooth_nb.opening import load_pipeline
    from dreambooth_nb.pipeline import with_parts
    folder, model = Path(job['folder']), job['model']
    write_images(folder/'instance', job.get('num_photos', 5), job['resolution'])
    write_images(folder/'class', job.get('num_class_images', 16), job['resolution'])
    pipeline = load_pipeline('toyland', device='cpu')
    if model != 'toyland':
        parts = {name: with_random_weights(part) for name, part in empty_parts(model).items()}
        pipeline.tokenizer.model_max_length = parts['text_encoder'].config.max_position_embeddings
        pipeline = with_parts(pipeline, **parts)
    pipeline.save_pretrained(folder/'model')

def write_images(folder, count, side):
    "Write so many different images."
    import numpy as np
    from PIL import Image
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        colours = Image.fromarray(rng.integers(0, 256, (4, 4, 3), 'uint8'))
        colours.resize((side, side), Image.BICUBIC).save(folder/f'{i:03}.png')


# ---- what a step has to compute

def unet_inputs(unet, samples:int, side:int, tokens:int, device)->dict: # of its forward
    "Make inputs for a UNet: noise, timesteps, a prompt's states; for SDXL also sizes and a pooled prompt."
    import torch
    c = unet.config
    how = dict(device=device)
    inputs = dict(
        sample=torch.randn(samples, c.in_channels, side, side, **how), timestep=torch.zeros(samples, **how).long(),
        encoder_hidden_states=torch.randn(samples, tokens, c.cross_attention_dim, **how))
    if c.addition_embed_type != 'text_time': return inputs
    width = c.projection_class_embeddings_input_dim - 6*c.addition_time_embed_dim
    pooled, sizes = torch.randn(samples, width, **how), torch.zeros(samples, 6, **how)
    return inputs | dict(added_cond_kwargs=dict(text_embeds=pooled, time_ids=sizes))

def networks(job):
    "Return a job's networks on the 'meta' device, with the plain attention that the counter knows."
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from transformers import CLIPTextConfig, CLIPTextModel
    folder = Path(job['folder'])/'model'
    with torch.device('meta'):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder/'unet'))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder/'vae'))
        config = CLIPTextConfig.from_pretrained(folder/'text_encoder')
        text_encoder = CLIPTextModel._from_config(config, attn_implementation='eager')
    for part in (unet, vae): part.set_attn_processor(AttnProcessor())
    return unet, vae, text_encoder

def count_flops(compute):
    "Count the products and convolutions of a call."
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter: compute()
    return counter.get_total_flops()

def step_flops(
    job:dict, # folder, case, batch, resolution
)->dict: # FLOPs of one step: 'needed' by the loss, 'plain' where all is encoded every time, 'vae' of the latter
    "Count products and convolutions, forward and backward, without computing them (on the 'meta' device)."
    import torch
    unet, vae, text_encoder = networks(job)
    samples, learns, pixels = 2*job['batch'], 'text_encoder' in job['case'], job['resolution']
    side, tokens = pixels//2**(len(vae.config.block_out_channels) - 1), text_encoder.config.max_position_embeddings
    def text(prompts):
        ids = torch.zeros(prompts, tokens, dtype=torch.long, device='meta')
        with torch.set_grad_enabled(learns): return text_encoder(ids)[0]
    def step(prompts):
        states = text(prompts).repeat_interleave(samples//prompts, 0)
        inputs = unet_inputs(unet, samples, side, tokens, 'meta') | dict(encoder_hidden_states=states)
        unet(**inputs).sample.sum().backward()
    def encode():
        with torch.no_grad(): vae.encode(torch.empty(samples, 3, pixels, pixels, device='meta'))
    frozen, of_vae = 0 if learns else count_flops(lambda: text(2)), count_flops(encode)
    return dict(needed=count_flops(lambda: step(2)) - frozen, plain=count_flops(lambda: step(samples)) + of_vae,
                vae=of_vae)

def unet_flops(
    job:dict, # model, batch, resolution
)->dict: # as `step_flops`
    "Count the step of a UNet alone."
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    with torch.device('meta'): unet = UNet2DConditionModel(**UNETS[job['model']])
    unet.set_attn_processor(AttnProcessor())
    inputs = unet_inputs(unet, 2*job['batch'], job['resolution']//8, 77, 'meta')
    flops = count_flops(lambda: unet(**inputs).sample.sum().backward())
    return dict(needed=flops, plain=flops, vae=0)


# ---- the machine

def matmul_rate(
    dtype:str,          # 'fp32' or 'bf16'
    seconds:float=1.5,  # how long to try
)->float: # FLOP/s
    "Time products of square matrices, by torch.mm and on a CPU by oneDNN too; the fastest counts."
    import torch
    device, kind = 'cuda' if torch.cuda.is_available() else 'cpu', dict(fp32=torch.float32, bf16=torch.bfloat16)[dtype]
    size = 8192 if device == 'cuda' else 2048
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    products, best, end = [lambda: a @ b], float('inf'), time.perf_counter() + seconds
    if device == 'cpu' and torch.backends.mkldnn.is_available():
        products.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, 'none', [], ''))
    while best == float('inf') or time.perf_counter() < end:
        for product in products:
            start = time.perf_counter()
            product()[0, 0].item()
            best = min(best, time.perf_counter() - start)
    return 2*size**3/best

def machine(job:dict)->dict:
    "Return where and with which versions this was measured."
    import torch
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    name = next((line.split(': ')[1] for line in lines if line.startswith('model name')), platform.processor())
    is_gpu = torch.cuda.is_available()
    threads = torch.get_num_threads()
    device = torch.cuda.get_device_name() if is_gpu else f"{name}, {threads} thread{'s'*(threads > 1)}"
    versions = {name: version(name) for name in ('torch', 'diffusers', 'transformers', 'lightning')}
    rates = {dtype: matmul_rate(dtype) for dtype in ('fp32', 'bf16')}
    return dict(device=device, is_gpu=is_gpu, rates=rates, python=platform.python_version(), **versions)
