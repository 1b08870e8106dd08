"""Time and memory of a training as the work grows: photos, class images, resolution, processes; on the embedded model.

    python benchmarks/scaling.py            # into nbs/logs/scaling.csv and nbs/images/scaling.png; a quarter of an hour
    python benchmarks/scaling.py --plot     # the figure alone, from the table
    python benchmarks/scaling.py --clock    # on an idle machine

One thread per process. What grows is varied alone: the rest stays at the smallest value. README.md next to this file
says what should be flat.
"""
import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path

from processes import child

NBS = Path(__file__).resolve().parent.parent/'nbs'
BASE = dict(photos=5, class_images=10, resolution=128, processes=1)
AXES = dict(photos=(5, 10, 20, 40, 80), class_images=(10, 50, 100, 200, 400), resolution=(64, 128, 192, 256),
            processes=(1, 2))
DRAWN = 8, 16, 32   # class images that the model draws
QUICK = dict(photos=(5, 20), class_images=(10, 50), resolution=(64, 128), processes=(1, 2))
COLUMNS = 'axis', 'value', 'round', 'seconds', 'cpu_seconds', 'to_first_step', 'cpu_to_first_step', 'peak_training'


# ---- measuring

def draw(job:dict)->dict: # number of images -> seconds and CPU seconds
    "Let the embedded model draw class images, as before a training."
    from dreambooth_nb import load_pipeline
    from dreambooth_nb.prior_images import class_images
    pipeline, found = load_pipeline('toyland', device='cpu'), {}
    for count in job['counts']:
        start = time.perf_counter(), time.process_time()
        class_images(pipeline, 'a photo of a dog', count, progress=False)
        found[count] = dict(seconds=time.perf_counter() - start[0], cpu_seconds=time.process_time() - start[1])
    return found

def measure_one(size:dict, steps:int)->dict: # of `contestants.measure`
    "Train on so many photos, class images, pixels and processes."
    work = dict(
        model='toyland', resolution=size['resolution'], num_photos=size['photos'],
        num_class_images=size['class_images'], contestant='B', case='unet', precision='same', compile=False, batch=2,
        steps=steps, warmup=2, settings=dict(accelerator='cpu', devices=size['processes']))
    with tempfile.TemporaryDirectory() as folder:
        child('materials:prepare', folder=folder, **work)
        return child('contestants:measure', threads=1, folder=folder, **work)

def rows_of(axes:dict, counts:tuple, steps:int, rounds:int):
    "Measure all sizes round by round, so that a busy spell meets all of them; yield a row for each."
    for number in range(rounds):
        smallest = measure_one(BASE, steps)     # is a point of every axis
        for axis, values in axes.items():
            for value in values:
                found = smallest if value == BASE[axis] else measure_one(BASE | {axis: value}, steps)
                yield dict(axis=axis, value=value, round=number) | {key: found[key] for key in COLUMNS[3:]}
        for value, found in child('scaling:draw', threads=1, counts=counts).items():
            yield dict(axis='drawn', value=value, round=number) | found


# ---- the figure

LABELS = dict(photos='photos', class_images='class images', resolution='pixels at a side', processes='processes')

def read(path):
    "Read the table: axis -> value -> column -> median over the rounds."
    with open(path, newline='') as file: rows = list(csv.DictReader(file))
    found = {}
    for axis, value in dict.fromkeys((row['axis'], row['value']) for row in rows):
        mine = [row for row in rows if (row['axis'], row['value']) == (axis, value)]
        columns = [column for column in COLUMNS[3:] if mine[0][column]]
        medians = {column: statistics.median(float(row[column]) for row in mine) for column in columns}
        found.setdefault(axis, {})[int(value)] = medians
    return found

def growth(found, axis, column):
    "Return the largest value's figure in relation to the smallest one's."
    sizes = sorted(found[axis])
    return found[axis][sizes[-1]][column]/found[axis][sizes[0]][column]

def each(found, axis, column):
    "Return what one more costs: the slope between the smallest and the largest."
    low, high = min(found[axis]), max(found[axis])
    return (found[axis][high][column] - found[axis][low][column])/(high - low)

def title_of(found):
    "Say what the figure shows."
    def sizes(axis): return f'with {max(found[axis])} {LABELS[axis]} instead of {min(found[axis])}'
    def times(axis, column): return f'{growth(found, axis, column):.2f} times'
    def grown(axis): return f"{times(axis, 'cpu_seconds')} the time and {times(axis, 'peak_training')} the memory"
    def once(axis): return f"{1000*each(found, axis, 'cpu_to_first_step'):.0f} ms"
    return (f"A step takes {grown('photos')} {sizes('photos')},\n"
            f"{grown('class_images')} {sizes('class_images')}. Once, before the first step:\n"
            f"{once('photos')} for a photo, {once('class_images')} for a class image, and "
            f"{each(found, 'drawn', 'cpu_seconds'):.2f} s to draw one")

def line(figures, column, factor=1): return zip(*((size, figures[size][column]*factor) for size in sorted(figures)))

def plot(found, path, with_clock):
    "Draw time per step, time before the first step and memory against each axis."
    import matplotlib.pyplot as plt
    figure, rows = plt.subplots(3, 4, figsize=(11, 7.6), sharex='col', layout='constrained')
    clock, cpu = dict(color='#8a8a8a', ls='--', marker='o'), dict(color='#0b559f', marker='o')
    for (axis, label), (step, start, memory) in zip(LABELS.items(), rows.T):
        if with_clock:
            step.plot(*line(found[axis], 'seconds', 1000), **clock, label='by the clock')
            start.plot(*line(found[axis], 'to_first_step'), **clock)
        step.plot(*line(found[axis], 'cpu_seconds', 1000), **cpu, label='CPU')
        start.plot(*line(found[axis], 'cpu_to_first_step'), **cpu)
        memory.plot(*line(found[axis], 'peak_training', 1000), **cpu)
        sizes = sorted(found[axis])
        memory.set(xlabel=label, xticks=sizes if len(sizes) < 5 else [sizes[0], *sizes[2:]])
    if with_clock: rows[0, 0].legend(frameon=False, loc='lower right')
    for ax in rows.flat:
        ax.set_ylim(0, 1.1*ax.dataLim.ymax)
        ax.margins(x=.1)
        ax.spines[['top', 'right']].set_visible(False)
    kind = '' if with_clock else ' of CPU'
    labels = f'ms{kind} per step', f's{kind} before the first step', 'peak memory, MB'
    for ax, label in zip(rows[:, 0], labels): ax.set_ylabel(label)
    figure.suptitle(title_of(found), fontsize=11, x=.01, ha='left')
    figure.savefig(path, dpi=90)


# ---- one command

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', default=NBS/'logs'/'scaling.csv', type=Path, help='the table')
    parser.add_argument('--figure', default=NBS/'images'/'scaling.png', type=Path)
    parser.add_argument('--steps', type=int, default=12, help='of each run, of which 2 + 1 warm up; default: 12')
    parser.add_argument('--rounds', type=int, default=2, help='default: 2')
    parser.add_argument('--quick', action='store_true', help='few sizes and steps, one round: to see that it runs')
    parser.add_argument('--plot', action='store_true', help='measure nothing, draw the figure from the table')
    parser.add_argument('--clock', action='store_true',
                        help="draw times by the clock too, not the process's own alone; for an idle machine")
    a = parser.parse_args()
    if not a.plot:
        how = (QUICK, (2, 4), 6, 1) if a.quick else (AXES, DRAWN, a.steps, a.rounds)
        with open(a.output, 'w', newline='') as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for row in rows_of(*how):
                row = {key: f'{value:.4g}' if isinstance(value, float) else value for key, value in row.items()}
                writer.writerow(row)
                file.flush()
                print(', '.join(f'{key} {value}' for key, value in row.items()), flush=True)
    found = read(a.output)
    plot(found, a.figure, a.clock)
    print(title_of(found))


if __name__ == '__main__': main()
