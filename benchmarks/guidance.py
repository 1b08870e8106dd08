"""Time and memory of one guided prediction: one forward of twice the batch against two forwards.

    python benchmarks/guidance.py --output nbs/logs/guidance.csv
    python benchmarks/guidance.py --output guidance_cuda.csv --device cuda --sizes 64

The two ways take turns, in the order A B A B. Notebook 04 shows the table.
"""
import argparse
import csv
import multiprocessing
import os
import re
import time
from pathlib import Path

# torch is imported by the processes that measure, each with the threads it is given
WAYS = {'two': True, 'one': False}  # name -> sequential
COLUMNS = 'device', 'threads', 'model', 'latents', 'batch', 'way', 'round', 'cpu_seconds', 'seconds', 'working_mb'


def open_unet(model, device):
    "Return a UNet and a text's (tokens, width): the embedded one, or Stable Diffusion 1.5's with random weights."
    if model == 'toyland':
        from dreambooth_nb.opening import load_pipeline
        return load_pipeline(device=device).unet, (24, 128)
    from training import stable_diffusion_parts, with_random_weights  # the script next to this one
    return with_random_weights(stable_diffusion_parts()['unet']).to(device), (77, 768)

def prediction(unet, text, size, batch):
    "Return a function that predicts in either way."
    import torch
    from dreambooth_nb.prediction import predict_noise
    generator = torch.Generator().manual_seed(0)
    def noise(*shape): return torch.randn(batch, *shape, generator=generator).to(unet.device)
    latents, cond, uncond = noise(4, size, size), dict(text=noise(*text)), dict(text=noise(*text))
    timestep = torch.tensor(500, device=unet.device)
    def ask(latents, timestep, conditions): return unet(latents, timestep, conditions['text']).sample
    @torch.inference_mode()
    def predict(way): return predict_noise(ask, latents, timestep, cond, uncond, 7.5, sequential=WAYS[way]).cpu()
    return predict

def measure_time(model, size, batch, rounds, threads, device):
    "Time each way, in turn; return rows of (way, round, CPU time of this process, time on the clock)."
    import torch
    torch.set_num_threads(threads)
    predict, rows = prediction(*open_unet(model, device), size, batch), []
    for way in WAYS: predict(way)  # the first forward also prepares the kernels
    for i in range(rounds):
        for way in WAYS:
            cpu, start = time.process_time(), time.perf_counter()
            predict(way)
            rows.append((way, i, time.process_time() - cpu, time.perf_counter() - start))
    return rows

def measure_memory(model, size, batch, way, threads, device):
    "Return the peak above what the loaded model needs, in MB: resident memory, or what torch allocated on a GPU."
    import torch
    torch.set_num_threads(threads)
    predict = prediction(*open_unet(model, device), size, batch)
    if device != 'cpu':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        predict(way)
        return (torch.cuda.max_memory_allocated() - before)/1e6
    def resident(name): return int(re.search(rf'{name}:\s+(\d+) kB', Path('/proc/self/status').read_text())[1])*1024/1e6
    prediction(*open_unet('toyland', device), 16, 1)(way)  # the libraries' own buffers
    Path('/proc/self/clear_refs').write_text('5')  # the peak begins again
    before = resident('VmRSS')
    predict(way)
    return resident('VmHWM') - before

def in_fresh_process(function, *args):
    "Call a function in a process of its own."
    with multiprocessing.get_context('spawn').Pool(1) as pool: return pool.apply(function, args)

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', required=True, help='CSV file; rows are added')
    parser.add_argument('--model', default='sd15', choices=('toyland', 'sd15'))
    parser.add_argument('--sizes', type=int, nargs='+', default=[32], help='sides of the latents; 64 is 512x512 pixels')
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 8])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = str(args.threads)
    new = not Path(args.output).exists()
    for size in args.sizes:
        for batch in args.batches:
            sizes, where = (args.model, size, batch), (args.threads, args.device)
            memory = {way: in_fresh_process(measure_memory, *sizes, way, *where) for way in WAYS}
            rows = in_fresh_process(measure_time, *sizes, args.rounds, *where)
            with open(args.output, 'a', newline='') as f:
                writer = csv.writer(f)
                if new: writer.writerow(COLUMNS)
                new = False
                for way, i, cpu, clock in rows:
                    measured = f'{cpu:.4f}', f'{clock:.4f}', f'{memory[way]:.0f}'
                    writer.writerow((args.device, args.threads, *sizes, way, i, *measured))
                    print(size, batch, way, i, f'{cpu:.3f} s, {memory[way]:.0f} MB', flush=True)

if __name__ == '__main__': main()
